"""`queries/tables.py` says what the migrations made."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from queries.tables import METADATA
from tests.queries.ledger import Ledger

_COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type,
       coalesce(a.attnum = ANY (k.conkey), false) AS in_key, col_description(a.attrelid, a.attnum) AS comment
FROM pg_attribute AS a LEFT JOIN pg_constraint AS k ON k.conrelid = a.attrelid AND k.contype = 'p'
WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_SAME = {"TIMESTAMP WITH TIME ZONE": "timestamp with time zone", "xid8": "bigint", '"char"': "char(1)"}


def _declared(table: Table) -> list[tuple[str, str, bool]]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return [
        (column.name, _plain(column.type.compile(dialect=dialect)), column.primary_key)
        for column in table.columns
    ]


def _plain(type_name: str) -> str:
    return _SAME.get(type_name, type_name).lower()


@pytest.mark.parametrize("table", METADATA.tables.values(), ids=METADATA.tables)
async def test_a_table_has_the_columns_types_and_key_that_are_declared(ledger: Ledger, table: Table) -> None:
    rows: list[Any] = await ledger.connection.fetch(_COLUMNS, f"{table.schema}.{table.name}")
    assert [(row["name"], _plain(row["type"]), row["in_key"]) for row in rows] == _declared(table)


async def test_every_table_and_column_of_ours_says_what_it_means(ledger: Ledger) -> None:
    silent = await ledger.connection.fetch("""
        SELECT c.relname, a.attname FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND NOT a.attisdropped AND a.attnum > 0
        WHERE c.relnamespace = 'guardwire'::regnamespace AND c.relkind IN ('r', 'p')
          AND c.relname NOT IN ('migrations', 'revocations')
          AND (obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL)""")
    assert silent == []


async def test_every_function_that_acts_for_its_owner_resolves_no_name_by_its_callers_path(
    ledger: Ledger,
) -> None:
    """A writer must not be able to slip in a function or an operator of its own."""
    await ledger.connection.execute("""
        CREATE SCHEMA evil;
        CREATE FUNCTION evil.fail(text, text) RETURNS boolean LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'slipped in'; END $$;
        CREATE FUNCTION evil.length(text) RETURNS integer LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'slipped in'; END $$;
        CREATE FUNCTION evil.left(text, integer) RETURNS text LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'slipped in'; END $$;
        CREATE FUNCTION evil.abs(numeric) RETURNS numeric LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'slipped in'; END $$;
        CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.fail);
        CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.fail);
        CREATE OPERATOR evil.~ (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.fail);
        SET search_path = evil, pg_catalog, public""")
    user = (await ledger.connection.fetchrow("SELECT gen_random_uuid() AS id"))["id"]
    for second in range(3):
        await ledger.log(user, second, current_price=1950 + second)
    await ledger.equity(user, 1000)
    await ledger.connection.execute("INSERT INTO guard_limits (user_id) VALUES ($1)", user)
    await ledger.connection.execute(
        "UPDATE instruments SET pip_size = 1 WHERE symbol OPERATOR(pg_catalog.=) 'XAUUSD'"
    )
    await ledger.connection.execute("RESET search_path")
    assert await ledger.notes() == []
    assert (await ledger.book(user))["1"]["current_price"] == 1952


async def test_the_capture_can_be_asked_for_by_nobody_without_rights(
    ledger: Ledger, migrated_url: str
) -> None:
    name = f"nobody_{await ledger.connection.fetchval('SELECT pg_backend_pid()')}"
    await ledger.connection.execute(f"CREATE ROLE {name}")
    try:
        await ledger.connection.execute(f"SET ROLE {name}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await ledger.connection.execute("SELECT guardwire.apply_tokens('{}')")
    finally:
        await ledger.connection.execute("RESET ROLE")
        await ledger.connection.execute(f"DROP ROLE {name}")

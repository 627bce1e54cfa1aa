"""Functions in schema public whose arguments match better than those of PostgreSQL's own.

Before PostgreSQL 15 every login may make such functions, and a server that was upgraded keeps it so.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.cli.conftest import Guardwire
from tests.databases import Databases
from tests.queries.database_writer import DatabaseWriter, connected

#: PostgreSQL's own take an array of anything, or any number of arguments of any type.
_BETTER: Final = (
    *(f"unnest({each}[]) RETURNS SETOF {each}" for each in ("text", "uuid", "bigint")),
    *(f"array_length({each}[], int) RETURNS int" for each in ("text", "uuid", "bigint")),
    *(f"cardinality({each}[]) RETURNS int" for each in ("text", "uuid", "bigint")),
    *(
        f"format(text, {', '.join(each)}) RETURNS text"
        for each in (["text"], ["name"], ["boolean"], ["text"] * 2)
    ),
    *(f"concat(text, {each}) RETURNS text" for each in ("text", "bigint")),
    *(f"to_json({each}) RETURNS json" for each in ("text", "uuid", "public.reconciliation_logs")),
    *(f"to_jsonb({each}) RETURNS jsonb" for each in ("text", "uuid", "public.reconciliation_logs")),
    "row_to_json(public.reconciliation_logs) RETURNS json",
    "array_append(text[], text) RETURNS text[]",
)


@pytest.fixture
async def owner(migrated_url: str, databases: Databases) -> AsyncIterator[Any]:
    """The owner's connection to a database where a stranger has made such functions; `seen` lists their calls."""
    stranger = f"stranger_{secrets.token_hex(4)}"
    async with connected(migrated_url) as owner:
        await owner.execute(
            f"CREATE ROLE {stranger} LOGIN PASSWORD 'secret'; GRANT CREATE ON SCHEMA public TO PUBLIC;"
            "CREATE TABLE public.seen (called text, by text); GRANT INSERT ON public.seen TO PUBLIC"
        )
        parts = urlsplit(migrated_url)
        url = parts._replace(netloc=f"{stranger}:secret@{parts.netloc.rpartition('@')[2]}").geturl()
        async with connected(url) as connection:
            for better in _BETTER:
                await connection.execute(
                    f"CREATE FUNCTION public.{better} LANGUAGE plpgsql AS $$ BEGIN"
                    f" INSERT INTO public.seen VALUES ('{better}', current_user);"
                    f" {'RETURN;' if 'SETOF' in better else 'RETURN NULL;'} END $$"
                )
        await owner.execute("SELECT unnest(ARRAY['x'])")
        assert await owner.fetchval("DELETE FROM public.seen RETURNING called") == _BETTER[0]
        yield owner
        await owner.execute(f"DROP OWNED BY {stranger}")
    databases.run(databases.execute(f"DROP ROLE {stranger}"))


async def test_commands_call_no_function_that_a_stranger_made(
    owner: Any, migrated_url: str, guardwire: Guardwire
) -> None:
    user = uuid4()
    writer = DatabaseWriter(owner, user)
    await writer.sync()
    await writer.equity(1000)
    await owner.execute("DELETE FROM public.seen")
    for command in (("verify",), ("rebuild", "--user", str(user)), ("rebuild",), ("verify", "--doubts")):
        done = guardwire(*command, DATABASE_URL=migrated_url)
        assert done.returncode == 0, done.stdout + done.stderr
    assert await owner.fetch("SELECT DISTINCT called FROM public.seen") == []

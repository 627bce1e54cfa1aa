"""Each rule has one definition, and each name one meaning."""

from __future__ import annotations

from decimal import Decimal

from queries.migrations.existing import READ_COLUMNS
from realtime.audit.history import Limits
from tests.queries.database_writer import DatabaseWriter

#: Columns of the limits besides the account.
LIMITS = (
    "drawdown_warning_pct, drawdown_critical_pct, minimum_equity, countdown_seconds, gap_warning_pct,"
    " gap_critical_pct, spread_warning_pct, spread_critical_pct, alert_window_seconds, sync_overdue_seconds,"
    " peak_since"
)


async def test_limits_that_nobody_set_are_the_same_everywhere(writer: DatabaseWriter) -> None:
    """In public.guard_limits, in the applied copy, in an account without a row, and in the oracle."""
    await writer.connection.execute("INSERT INTO guard_limits (user_id) VALUES ($1)", writer.user_id)
    table = await writer.connection.fetchrow(f"SELECT {LIMITS} FROM public.guard_limits")
    await writer.apply()
    select = f"SELECT {LIMITS} FROM"
    applied = await writer.connection.fetchrow(
        f"{select} guardwire.limits WHERE user_id = $1", writer.user_id
    )
    defaults = await writer.connection.fetchrow(
        f"{select} guardwire.limits WHERE user_id = guardwire.no_account()"
    )
    unset = await writer.connection.fetchrow(f"{select} guardwire.limits_of($1)", writer.of().user_id)
    read = await writer.connection.fetchrow(f"{select} guardwire.read_limits($1, '{{}}', 0)", writer.user_id)
    assert dict(table) == dict(applied) == dict(defaults) == dict(unset) == dict(read)
    oracle = Limits(user_id=writer.user_id)
    assert {name: getattr(oracle, name) for name in dict(table)} == {
        name: float(value) if isinstance(value, Decimal) else value for name, value in table.items()
    }


async def test_the_columns_that_the_rules_read_are_those_that_a_migration_looks_for(
    writer: DatabaseWriter,
) -> None:
    """No rule reads instruments.pip_size."""
    sources = {
        "l": "reconciliation_logs",
        "e": "equity_snapshots",
        "g": "guard_limits",
        "i": "instruments",
        "x": "fx_rates",
    }
    for source, table in sources.items():
        read = await writer.connection.fetchval('SELECT guardwire.read_columns($1::text::"char")', source)
        assert set(read) == READ_COLUMNS[table].keys() - {"pip_size"}


async def test_no_table_of_ours_is_named_like_one_of_the_platforms(writer: DatabaseWriter) -> None:
    """A login named guardwire finds schema guardwire before schema public."""
    same = await writer.connection.fetch("""
        SELECT relname FROM pg_class WHERE relnamespace = 'guardwire'::regnamespace
        INTERSECT SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace""")
    assert same == []


async def test_every_table_of_ours_has_a_primary_key(writer: DatabaseWriter) -> None:
    """Logical replication of a whole database cannot update a table without one."""
    keyless = await writer.connection.fetch("""
        SELECT c.relname FROM pg_class AS c
        WHERE c.relnamespace = 'guardwire'::regnamespace AND c.relkind IN ('r', 'p')
          AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)""")
    assert keyless == []


async def test_every_table_and_column_of_ours_has_a_comment(writer: DatabaseWriter) -> None:
    silent = await writer.connection.fetch("""
        SELECT c.relname, a.attname FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND NOT a.attisdropped AND a.attnum > 0
        WHERE c.relnamespace = 'guardwire'::regnamespace AND c.relkind IN ('r', 'p')
          AND c.relname NOT IN ('migrations', 'revocations')
          AND (obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL)""")
    assert silent == []

"""The cost of a migration, before anything is installed: locks, the reading of history, and each row from then on.

Everything here is read, or rolled back. The cost of a row is measured on temporary tables: a copy of the log's newest
rows is inserted with the trigger of this release and without.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import asyncpg

from queries.migrations.existing import READ_COLUMNS
from queries.migrations.script import read_sql

#: Settings of a session that estimates: it waits for nobody, and nobody waits long for it.
SESSION: Final = {
    "application_name": "guardwire estimate",
    "statement_timeout": "20s",
    "lock_timeout": "1s",
    "jit": "off",
}
LOG: Final = "reconciliation_logs"
EQUITY: Final = "equity_snapshots"
#: The indexes that the migration makes on a table of equity that is there already.
EQUITY_INDEXES: Final = {
    "equity_snapshots_user_id": "(user_id, created_at)",
    "equity_snapshots_cash_flow": "(user_id, created_at) WHERE cash_flow <> 0",
}

#: Measured together on one machine (docs/sizing.md): microseconds to copy a row into the inbox, and to read a row of
#: history. Another machine is taken to be slower or faster at both by the same factor.
REFERENCE_COPY_US: Final = 24.0
REFERENCE_HISTORY_US: Final = 60.0
#: Bytes of a row of guardwire.arrivals, with its indexes.
ARRIVAL_BYTES: Final = 160
_ARRIVAL_DAYS: Final = 2
#: Rows that an index takes in a second, on a slow machine.
_INDEXED_ROWS: Final = 500_000
#: Bytes of a table that are read in a second.
_SCANNED_BYTES: Final = 500e6
_DAY_SECONDS: Final = 86_400.0

_SAMPLE_ROWS: Final = 2000
_ROUNDS: Final = 20
_ROUND_ROWS: Final = 200
_COPY: Final = f"INSERT INTO pg_temp.{{}} SELECT * FROM pg_temp.sample LIMIT {_ROUND_ROWS}"  # noqa: S608
#: The trigger's function, after the functions that it calls.
_TRIGGER_FUNCTIONS: Final = (
    *(
        "no_account",
        "read_user",
        "read_columns",
        "copy_value",
        "copy_columns",
        "is_short",
        "is_plain_copy",
        "copy_of",
    ),
    *("wake_applier", "copy_row"),
)
_LEAST_SPAN_SECONDS: Final = 60.0

# A table that was never analysed has no estimate: its rows are counted, up to a limit.
_TABLES: Final = """
SELECT c.relname AS name, sum(greatest(p.reltuples, 0))::bigint AS rows, sum(pg_relation_size(p.oid))::bigint AS bytes
FROM pg_class AS c
JOIN pg_class AS p ON p.relkind = 'r'
    AND (p.oid = c.oid OR p.oid IN (SELECT t.relid FROM pg_partition_tree(c.oid) AS t))
WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY ($1)
GROUP BY c.relname
"""
_COUNTED: Final = "SELECT count(*) FROM (SELECT FROM public.{} LIMIT 100000) AS o"
_ACCOUNTS: Final = """
SELECT greatest((SELECT count(DISTINCT s.user_id) FROM pg_temp.sample AS s),
                (SELECT CASE WHEN s.n_distinct >= 0 THEN s.n_distinct ELSE -s.n_distinct * greatest(c.reltuples, 0) END
                 FROM pg_stats AS s, pg_class AS c
                 WHERE s.schemaname = 'public' AND s.tablename = 'reconciliation_logs' AND s.attname = 'user_id'
                   AND c.oid = to_regclass('public.reconciliation_logs')))::bigint
"""
_INDEXED: Final = """
SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY ($1)
UNION ALL
SELECT 'user_id' WHERE EXISTS (
    SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = to_regclass('public.reconciliation_logs') AND i.indisvalid AND i.indpred IS NULL
      AND a.attname = 'user_id')
"""
# The last pages of a table that is only appended to have its newest rows; a partitioned table has no pages.
_SAMPLE: Final = """
CREATE TEMPORARY TABLE sample ON COMMIT DROP AS
SELECT * FROM public.reconciliation_logs AS l
WHERE l.ctid >= format('(%s,0)', greatest(0, pg_relation_size('public.reconciliation_logs')
                                             / current_setting('block_size')::integer - 100))::tid
LIMIT {rows}
"""
_SPAN_SECONDS: Final = """
SELECT extract(epoch FROM max(created_at) - min(created_at))::float8 FROM pg_temp.sample WHERE isfinite(created_at)
"""


class RowCost(NamedTuple):
    """Microseconds that the trigger adds to a row, and bytes that the row's copy takes in the inbox."""

    added_us: float
    inbox_bytes: float


class Estimate(NamedTuple):
    """The facts that an estimate is made from.

    ``tables`` holds the rows and bytes of each table that is there, ``indexed`` the names of `EQUITY_INDEXES` that are
    there, and ``user_id`` where the log has an index on it. ``row_cost`` is None where it could not be measured,
    ``rows_per_day`` where the newest rows do not say.
    """

    tables: Mapping[str, tuple[int, int]]
    accounts: int
    indexed: frozenset[str]
    row_cost: RowCost | None
    rows_per_day: float | None

    @property
    def history_seconds(self) -> float:
        """Seconds that the reading of the log's history takes."""
        rows, size = self.tables.get(LOG, (0, 0))
        pace = 1.0 if self.row_cost is None else max(0.2, self.row_cost.added_us / REFERENCE_COPY_US)
        seconds = rows * REFERENCE_HISTORY_US * pace / 1e6
        return seconds if "user_id" in self.indexed else seconds + self.accounts * size / _SCANNED_BYTES

    def sentences(self) -> Iterator[str]:
        """The estimate for people, one sentence a line; a line that begins with a blank is a statement."""
        yield from self._made()
        yield from self._locked()
        yield from self._read()
        yield from self._added()
        if self.rows_per_day:
            size = _size(_ARRIVAL_DAYS * self.rows_per_day * ARRIVAL_BYTES)
            days = f"48 hours at {self.rows_per_day:,.0f} rows a day"
            yield f"keeps {size} of arrivals ({days}), and 2 KB for each ticket"

    def _made(self) -> Iterator[str]:
        absent = [f"public.{name}" for name in READ_COLUMNS if name not in self.tables]
        if absent:
            yield f"makes {', '.join(absent)}, which are not there"
        yield "makes schema guardwire with tables, functions and triggers, in one transaction"

    def _locked(self) -> Iterator[str]:
        if self.tables:
            names = ", ".join(sorted(self.tables))
            yield f"locks {names} while triggers are made: writers wait about 0.1 s, readers never"
            yield "waits for these locks for 0.5 s at a time, with pauses of 1 s, and names the sessions that hold them"
        rows, _ = self.tables.get(EQUITY, (0, 0))
        missing = [name for name in EQUITY_INDEXES if name not in self.indexed]
        if rows and missing:
            wait = _duration(len(missing) * rows / _INDEXED_ROWS)
            yield f"locks {EQUITY} while {len(missing)} indexes over {rows:,} rows are made: writers wait about {wait},"
            yield "and nobody waits where these are made before:"
            for name in missing:
                yield f"    CREATE INDEX CONCURRENTLY {name} ON public.{EQUITY} {EQUITY_INDEXES[name]};"

    def _read(self) -> Iterator[str]:
        rows, _ = self.tables.get(LOG, (0, 0))
        if not rows:
            yield "reads no history, because the log has no row"
            return
        yield (
            f"reads the history of about {self.accounts:,} accounts, {rows:,} rows, in about"
            f" {_duration(self.history_seconds)} of one core"
        )
        yield "holds up no writer while it reads; an account is stale until its history is read"
        if "user_id" not in self.indexed:
            yield "reads the whole log once for each account, unless an index is made before"
            yield f"    CREATE INDEX CONCURRENTLY {LOG}_user_id ON public.{LOG} (user_id, created_at);"

    def _added(self) -> Iterator[str]:
        cost = self.row_cost
        if cost is None:
            yield f"costs about {REFERENCE_COPY_US:.0f} µs for each row of the platform; this was not measured here"
        else:
            yield (
                f"costs {cost.added_us:.0f} µs for each row of the platform, as measured now in temporary tables, and"
                f" {cost.inbox_bytes:.0f} bytes of the inbox until the row is applied"
            )
        yield "makes commits that notify wait for each other; `guardwire migrate --no-notify` polls instead"


async def estimate(connection: Any) -> Estimate:
    """Estimates the migration of the database behind ``connection`` (asyncpg's), which is in no transaction."""
    tables = {
        row["name"]: (row["rows"], row["bytes"])
        for row in await connection.fetch(_TABLES, list(READ_COLUMNS))
    }
    for name, (rows, size) in tables.items():
        if not rows and size:
            tables[name] = await connection.fetchval(_COUNTED.format(name)), size
    cost, accounts, rows_per_day = (
        await _measure(connection) if tables.get(LOG, (0, 0))[0] else (None, 0, None)
    )
    indexed = frozenset(row[0] for row in await connection.fetch(_INDEXED, list(EQUITY_INDEXES)))
    return Estimate(tables, accounts, indexed, cost, rows_per_day)


async def _measure(connection: Any) -> tuple[RowCost | None, int, float | None]:
    """A row's cost, the number of accounts, and rows a day; nothing stays."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(_SAMPLE.format(rows=_SAMPLE_ROWS))
        accounts = await connection.fetchval(_ACCOUNTS)
        rows = await connection.fetchval("SELECT count(*) FROM pg_temp.sample")
        span = await connection.fetchval(_SPAN_SECONDS)
        per_day = rows * _DAY_SECONDS / span if span and span > _LEAST_SPAN_SECONDS else None
        return await _row_cost(connection, rows), accounts, per_day
    except asyncpg.InsufficientPrivilegeError:
        return None, 0, None
    finally:
        await transaction.rollback()


async def _row_cost(connection: Any, rows: int) -> RowCost | None:
    if not rows:
        return None
    await connection.execute(_temporary_trigger())
    seconds: dict[str, list[float]] = {"bare": [], "copied": []}
    for _ in range(_ROUNDS):
        for name, measured in seconds.items():
            begun = time.perf_counter()
            await connection.execute(_COPY.format(name))
            measured.append(time.perf_counter() - begun)
    # The least is what a row costs on a processor that nobody else uses in that moment.
    added = max(0.0, min(seconds["copied"]) - min(seconds["bare"]))
    copied, size = await connection.fetchrow(
        "SELECT count(*), pg_total_relation_size('pg_temp.inbox') FROM pg_temp.inbox"
    )
    return RowCost(added / min(rows, _ROUND_ROWS) * 1e6, size / copied)


def _temporary_trigger() -> str:
    """A script that makes the inbox and the trigger of this release among temporary objects."""
    functions = "".join(read_sql("code", name) for name in ("10_readings.sql", "20_rows.sql", "60_inbox.sql"))
    wanted = [_function(functions, name) for name in _TRIGGER_FUNCTIONS]
    inbox = re.search(
        r"CREATE TABLE guardwire\.inbox \(.*?\n\)", read_sql("tables", "0005_inbox.sql"), re.DOTALL
    )
    assert inbox is not None
    script = "\n".join(
        [
            inbox[0].replace("CREATE TABLE guardwire.", "CREATE TEMPORARY TABLE ") + ";",
            "CREATE INDEX ON guardwire.inbox (account, nth);",
            "CREATE FUNCTION guardwire.wakes_applier() RETURNS boolean LANGUAGE sql IMMUTABLE RETURN false;",
            *wanted,
            "CREATE TEMPORARY TABLE bare AS SELECT * FROM pg_temp.sample WITH NO DATA;",
            "CREATE TEMPORARY TABLE copied AS SELECT * FROM pg_temp.sample WITH NO DATA;",
            "CREATE TRIGGER copy AFTER INSERT ON pg_temp.copied FOR EACH ROW EXECUTE FUNCTION guardwire.copy_row('l');",
        ]
    )
    return script.replace("guardwire.", "pg_temp.")


def _function(script: str, name: str) -> str:
    # No function of these files has a blank line inside.
    found = re.search(rf"CREATE OR REPLACE FUNCTION guardwire\.{name}\(.*?;\n\n", script, re.DOTALL)
    assert found is not None, name
    return found[0]


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "a second"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(size: float) -> str:
    for unit in ("KB", "MB"):
        size /= 1000
        if size < 1000:
            return f"{size:.0f} {unit}"
    return f"{size / 1000:.1f} GB"

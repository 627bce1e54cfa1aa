"""Whether the tables that a platform already has can be read; all that is wrong is said at once."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from realtime.errors import MigrationError

_TEXT: Final = frozenset({"text", "character varying", "character", "enum"})
_WHOLE: Final = frozenset({"smallint", "integer", "bigint"})
_NUMBER: Final = _WHOLE | {"numeric", "real", "double precision"}
_TIME: Final = frozenset({"timestamp with time zone", "timestamp without time zone"})
_UUID: Final = frozenset({"uuid"})
_WRITTEN_UUID: Final = _UUID | {"text", "character varying", "character"}
_TICKET: Final = _WHOLE | {"numeric", "text", "character varying"}
_MATCHED: Final = _WHOLE | {"boolean", "text", "character varying"}
_DIRECTION: Final = _TEXT | _WHOLE

#: The columns that the capture reads, and the types that code/10_readings.sql can read them as.
READ_COLUMNS: Final[dict[str, dict[str, frozenset[str]]]] = {
    "reconciliation_logs": {
        "id": _UUID,
        "user_id": _WRITTEN_UUID,
        "mt5_position_id": _TICKET,
        "symbol": _TEXT,
        "direction": _DIRECTION,
        "volume": _NUMBER,
        "entry_price": _NUMBER,
        "current_price": _NUMBER,
        "take_profit": _NUMBER,
        "stop_loss": _NUMBER,
        "matched": _MATCHED,
        "divergence_reason": _TEXT,
        "close_reason": _TEXT,
        "closed_price": _NUMBER,
        "pnl_gbp": _NUMBER,
        "event_type": _TEXT,
        "status": _TEXT,
        "error_message": _TEXT,
        "created_at": _TIME,
        "updated_at": _TIME,
    },
    "equity_snapshots": {
        "id": _UUID,
        "user_id": _UUID,
        "equity": _NUMBER,
        "balance": _NUMBER,
        "currency": _TEXT,
        "cash_flow": _NUMBER,
        "created_at": _TIME,
    },
    "guard_limits": {
        "user_id": _UUID,
        "drawdown_warning_pct": _NUMBER,
        "drawdown_critical_pct": _NUMBER,
        "minimum_equity": _NUMBER,
        "countdown_seconds": _WHOLE,
        "gap_warning_pct": _NUMBER,
        "gap_critical_pct": _NUMBER,
        "spread_warning_pct": _NUMBER,
        "spread_critical_pct": _NUMBER,
        "alert_window_seconds": _WHOLE,
        "sync_overdue_seconds": _WHOLE,
        "equity_overdue_seconds": _WHOLE,
        "peak_since": frozenset({"timestamp with time zone"}),
    },
    "instruments": {
        "symbol": _TEXT,
        "contract_size": frozenset({"numeric"}),
        "pip_size": _NUMBER,
        "quote_currency": _TEXT,
    },
    "fx_rates": {"id": _UUID, "base": _TEXT, "quote": _TEXT, "rate": _NUMBER, "created_at": _TIME},
}

#: Columns that a table may lack: `guardwire migrate` adds them where it may, and else their default holds.
ADDED_COLUMNS: Final = frozenset({("guard_limits", "equity_overdue_seconds")})

#: The oldest PostgreSQL that can be used, as server_version_num.
OLDEST_SERVER: Final = 140_000
#: The only encoding in which every text of a row can be written, and is cut between two characters.
ENCODING: Final = "UTF8"

_TABLES = text("""
SELECT c.relname AS "table", c.relkind::text AS kind
FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY (:tables)
""")

# Domains count as what they are made of.
_COLUMNS = text("""
SELECT c.relname AS "table", a.attname AS "column",
       CASE WHEN t.typtype = 'e' THEN 'enum'
            ELSE format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END, NULL) END AS type
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type AS t ON t.oid = a.atttypid
WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY (:tables)
""")

_NO_INDEX: Final = (
    "public.reconciliation_logs has no index on user_id, so reading history scans it once for each account; "
    "CREATE INDEX CONCURRENTLY ON public.reconciliation_logs (user_id) makes that quick"
)

# The capture finds a row again by its id, and an account's history by its user.
_INDEXED = text("""
SELECT DISTINCT c.relname AS "table", a.attname AS "column"
FROM pg_class AS c
JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY (:tables)
""")


async def check_server(connection: AsyncConnection) -> None:
    """Raises MigrationError where the server is too old, or the encoding is none in which every text can be kept."""
    version = int((await connection.execute(text("SHOW server_version_num"))).scalar_one())
    if version < OLDEST_SERVER:
        raise MigrationError(f"the server is PostgreSQL {version // 10_000}; 14 or later is needed")
    encoding = str((await connection.execute(text("SHOW server_encoding"))).scalar_one())
    if encoding != ENCODING:
        raise MigrationError(
            f"the database's encoding is {encoding}, and Guardwire needs {ENCODING}: load a dump of it into a database"
            f" that was made with TEMPLATE template0 ENCODING '{ENCODING}'"
        )


async def check_existing_tables(connection: AsyncConnection) -> list[str]:
    """Advice on the tables that are there already; raises MigrationError when one cannot be used."""
    names = {"tables": list(READ_COLUMNS)}
    kinds = {row.table: row.kind for row in await connection.execute(_TABLES, names)}
    types = {(row.table, row.column): row.type for row in await connection.execute(_COLUMNS, names)}
    indexed = {(row.table, row.column) for row in await connection.execute(_INDEXED, names)}
    problems = [
        problem for table, kind in kinds.items() if (problem := _problem(table, kind, types, indexed))
    ]
    if any(problems):
        raise MigrationError("; ".join(filter(None, problems)))
    return _advice(kinds, indexed)


def _problem(
    table: str, kind: str, types: dict[tuple[str, str], str], indexed: set[tuple[str, str]]
) -> str | None:
    """One clause with all that keeps the table from being read; None when it can be."""
    if kind not in ("r", "p"):
        return f"public.{table} is not a table"
    wrong = [
        f"column {column} is missing"
        if (table, column) not in types
        else f"column {column} is {types[table, column]} and not {_alternatives(accepted)}"
        for column, accepted in READ_COLUMNS[table].items()
        if types.get((table, column)) not in accepted
        and not ((table, column) in ADDED_COLUMNS and (table, column) not in types)
    ]
    if not wrong and "id" in READ_COLUMNS[table] and (table, "id") not in indexed:
        wrong = ["column id has no index"]
    return f"public.{table} cannot be read: {', '.join(wrong)}" if wrong else None


def _alternatives(accepted: frozenset[str]) -> str:
    return " or ".join(sorted(accepted))


def _advice(kinds: dict[str, str], indexed: set[tuple[str, str]]) -> list[str]:
    if "reconciliation_logs" in kinds and ("reconciliation_logs", "user_id") not in indexed:
        return [_NO_INDEX]
    return []

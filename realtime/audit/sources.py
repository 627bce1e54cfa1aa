"""How the platform's tables are read: their columns may be of several types, and every one becomes text,
a number as text, or a moment in UTC, before it leaves the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from realtime.audit.history import EquityRow, LogRow

#: The columns of the log that say something, by the field of `LogRow`.
LOG_COLUMNS: Final = {
    each.name: "mt5_position_id" if each.name == "ticket" else each.name
    for each in fields(LogRow)
    if each.name != "inserted"
}
#: The columns of `equity_snapshots`, by the field of `EquityRow`.
EQUITY_COLUMNS: Final = {each.name: each.name for each in fields(EquityRow) if each.name != "inserted"}

_MOMENTS: Final = ("created_at", "updated_at")

_TYPES: Final = """
SELECT 'public.' || c.relname || '.' || a.attname AS name,
       format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END, NULL) AS type
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type AS t ON t.oid = a.atttypid
WHERE c.relnamespace = 'public'::regnamespace
  AND c.relname IN ('reconciliation_logs', 'equity_snapshots', 'fx_rates')
"""


@dataclass(frozen=True)
class Sources:
    """The platform's tables in one database, by the types that their columns have."""

    types: Mapping[str, str]
    log: str = field(init=False)
    equity: str = field(init=False)
    rates: str = field(init=False)

    def __post_init__(self) -> None:
        for name, statement in (
            ("log", self._log()), ("equity", self._equity()), ("rates", self._rates()),
        ):  # fmt: skip
            object.__setattr__(self, name, statement)

    @classmethod
    async def of(cls, connection: Any) -> Sources:
        """Those of the database behind ``connection``."""
        return cls({row["name"]: row["type"] for row in await connection.fetch(_TYPES)})

    @property
    def users_are_text(self) -> bool:
        """Whether the log writes a user in any of several forms."""
        return self.types["public.reconciliation_logs.user_id"] != "uuid"

    def _log(self) -> str:
        # By time and by order of applying: a row that came late with an early time counts as much as the newest.
        table = "public.reconciliation_logs"
        mine = "l.user_id::text = ANY ($2::text[])" if self.users_are_text else "l.user_id = $1"
        listed_at = self._moment(table, "created_at", "l")
        return f"""
        WITH {_waiting("l")}, arrived AS (
            SELECT a.log_id, a.revision, a.ordinal, a.inserted,
                   coalesce(a.arrived_at, to_timestamp(a.revision / 1000000.0)) AS arrived_at
            FROM guardwire.arrivals AS a
            WHERE a.user_id = $1 AND a.source = 'l' ORDER BY a.revision DESC, a.ordinal DESC LIMIT $3
        ), last AS (
            SELECT DISTINCT ON (a.log_id) a.log_id, a.revision, a.ordinal, a.arrived_at,
                   bool_and(a.inserted) OVER (PARTITION BY a.log_id) AS untouched
            FROM arrived AS a ORDER BY a.log_id, a.revision DESC, a.ordinal DESC
        ), newest AS (
            SELECT l.id, {listed_at} AS listed_at
            FROM public.reconciliation_logs AS l WHERE {mine} AND $2::text[] IS NOT NULL AND {_is_applied("l")}
            ORDER BY l.created_at DESC LIMIT $3
        ), wanted AS (
            SELECT k.id, max(k.listed_at) AS listed_at
            FROM (SELECT n.id, n.listed_at FROM newest AS n
                  UNION ALL SELECT a.log_id, NULL FROM last AS a
                  UNION ALL SELECT o.id, NULL FROM waiting AS o WHERE o.old_row IS NOT NULL) AS k
            GROUP BY k.id
        )
        SELECT w.listed_at, a.revision, a.ordinal, a.arrived_at, a.untouched,
               (SELECT count(*) FROM arrived) AS arrivals,
               {self._columns(table, LOG_COLUMNS)}
        FROM wanted AS w
        LEFT JOIN last AS a ON a.log_id = w.id
        {_as_applied(table)}
        """  # noqa: S608 - put together from constants and the types of columns alone

    def _equity(self) -> str:
        table = "public.equity_snapshots"
        return f"""
        WITH {_waiting("e")}, arrived AS (
            SELECT DISTINCT ON (a.log_id) a.log_id, a.revision, a.ordinal,
                   coalesce(a.arrived_at, to_timestamp(a.revision / 1000000.0)) AS arrived_at,
                   bool_and(a.inserted) OVER (PARTITION BY a.log_id) AS untouched
            FROM guardwire.arrivals AS a
            WHERE a.user_id = $1 AND a.source = 'e' ORDER BY a.log_id, a.revision, a.ordinal
        ), newest AS MATERIALIZED (
            SELECT e.id, {self._moment(table, "created_at", "e")} AS at
            FROM public.equity_snapshots AS e WHERE e.user_id = $1 AND {_is_applied("e")}
            ORDER BY e.created_at DESC LIMIT $2
        ), wanted AS (
            SELECT n.id FROM newest AS n
            UNION (SELECT a.log_id FROM arrived AS a ORDER BY a.revision DESC LIMIT $2)
            UNION SELECT o.id FROM waiting AS o WHERE o.old_row IS NOT NULL
        )
        SELECT (SELECT coalesce(min(n.at), now()) FROM newest AS n HAVING count(*) >= $2) AS begins_at,
               a.revision, a.ordinal, a.arrived_at, coalesce(a.untouched, true) AS untouched,
               {self._columns(table, EQUITY_COLUMNS)}
        FROM wanted AS w
        LEFT JOIN arrived AS a ON a.log_id = w.id
        {_as_applied(table)}
        """  # noqa: S608 - as above

    def _rates(self) -> str:
        moment = self._moment("public.fx_rates", "created_at", "f")
        return f"""
        SELECT base, quote, rate::text, at
        FROM (SELECT r.*, rank() OVER (PARTITION BY base, quote ORDER BY at DESC NULLS FIRST) AS nth
              FROM (SELECT {_code("f.base")} AS base, {_code("f.quote")} AS quote,
                           round(f.rate::text::numeric, 15) AS rate, {moment} AS at
                    FROM public.fx_rates AS f WHERE f.rate::text::numeric < 1e15) AS r
              WHERE base <> '' AND quote <> '' AND rate > 0) AS ranked
        WHERE nth = 1
        """  # noqa: S608 - as above

    def _columns(self, table: str, columns: Mapping[str, str]) -> str:
        """The columns as text, of the row that is called v.

        A cast to numeric would keep 15 digits of a double precision and 6 of a real. A cast to text keeps all of
        them, as JSON does.
        """
        return ", ".join(
            f"{self._moment(table, column, 'v')} AS {name}"
            if column in _MOMENTS
            else f"v.{column}::text AS {name}"
            for name, column in columns.items()
        )

    def _moment(self, table: str, column: str, alias: str) -> str:
        """The column in UTC where it is a moment that a program can hold, else null."""
        naive = self.types[f"{table}.{column}"] == "timestamp without time zone"
        moment = f"({alias}.{column} AT TIME ZONE 'UTC')" if naive else f"{alias}.{column}"
        return (
            f"CASE WHEN {moment} >= '1970-01-01 00:00:00+00'::timestamptz"
            f" AND {moment} < '9999-12-31 00:00:00+00'::timestamptz THEN {moment} END"
        )


def _waiting(source: str) -> str:
    """The rows of an account that wait in the inbox, each with its version before the first change that waits."""
    return f"""waiting AS MATERIALIZED (
            SELECT DISTINCT ON (o.id) o.id, o.old_row
            FROM (SELECT (coalesce(i.new_row, i.old_row) ->> 'id')::uuid AS id, i.old_row, i.nth
                  FROM guardwire.inbox AS i WHERE i.account = $1 AND i.source = '{source}') AS o
            ORDER BY o.id, o.nth
        )"""  # noqa: S608 - as above


def _is_applied(alias: str) -> str:
    """Whether some version of a row was applied; rows that only wait would take the place of older ones."""
    return f"NOT EXISTS (SELECT FROM waiting AS o WHERE o.id = {alias}.id AND o.old_row IS NULL)"


def _as_applied(table: str) -> str:
    """Joins the wanted rows as they were applied: as they are, or as they were before the changes that wait."""
    return f"""LEFT JOIN waiting AS n ON n.id = w.id
        LEFT JOIN LATERAL (
            SELECT t.* FROM {table} AS t WHERE t.id = w.id AND n.id IS NULL
            UNION ALL
            SELECT o.* FROM json_populate_record(NULL::{table}, n.old_row) AS o WHERE n.old_row IS NOT NULL
        ) AS v ON true"""  # noqa: S608 - as above


def _code(column: str) -> str:
    return f"upper(left(btrim({column}::text, E' \\t\\r\\n\\f\\x0B'), 16) COLLATE \"C\")"

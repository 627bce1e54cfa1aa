"""Is the capture itself whole: its triggers there and enabled, no row set aside, every history read?"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

#: Every trigger that fills the inbox, by its table.
TRIGGERS: Final = {
    "public.reconciliation_logs": ("guardwire_copy",),
    "public.equity_snapshots": ("guardwire_copy",),
    "public.fx_rates": ("guardwire_copy",),
    "public.guard_limits": ("guardwire_copy", "guardwire_truncate"),
    "public.instruments": ("guardwire_copy", "guardwire_truncate"),
}

# A trigger that does not fire ALWAYS misses rows that logical replication applies. On a partitioned table a row that
# moves to another partition is deleted and inserted, so deletes are copied as well.
_TRIGGERS: Final = """
SELECT e.name AS "table", e.trigger,
       CASE t.tgenabled WHEN 'A' THEN NULL WHEN 'D' THEN 'disabled' WHEN 'O' THEN 'not enabled as ALWAYS'
                        WHEN 'R' THEN 'not enabled as ALWAYS' ELSE 'missing' END AS wrong
FROM (SELECT * FROM unnest($1::text[], $2::text[])
      UNION ALL
      SELECT p.name, 'guardwire_move'
      FROM unnest(ARRAY['public.reconciliation_logs', 'public.equity_snapshots']) AS p (name)
      JOIN pg_class AS c ON c.oid = to_regclass(p.name) AND c.relkind = 'p') AS e (name, trigger)
LEFT JOIN pg_trigger AS t ON t.tgrelid = to_regclass(e.name) AND t.tgname = e.trigger AND NOT t.tgisinternal
"""
_SET_ASIDE: Final = "SELECT count(*) AS rows, min(s.reason) AS reason FROM guardwire.set_aside AS s"
_UNREAD: Final = "SELECT count(*) FROM guardwire.accounts WHERE NOT ready"


class Complaint(NamedTuple):
    """What is wrong, in one sentence, and what mends it, in another."""

    wrong: str
    mend: str

    def __str__(self) -> str:
        return f"{self.wrong}; {self.mend}"


async def check_triggers(connection: Any) -> list[Complaint]:
    """What is wrong with the triggers in the database behind ``connection`` (asyncpg's)."""
    tables = [table for table, triggers in TRIGGERS.items() for _ in triggers]
    triggers = [trigger for group in TRIGGERS.values() for trigger in group]
    return [_complain(row) for row in await connection.fetch(_TRIGGERS, tables, triggers) if row["wrong"]]


def _complain(row: Any) -> Complaint:
    return Complaint(
        f"trigger {row['trigger']} on {row['table']} is {row['wrong']}: rows that are written there can be missed",
        "`guardwire migrate` enables it, and `guardwire rebuild` reads the rows that were missed",
    )


async def check_capture(connection: Any) -> list[Complaint]:
    """Everything that is wrong with the capture in the database behind ``connection`` (asyncpg's)."""
    complaints = await check_triggers(connection)
    set_aside = await connection.fetchrow(_SET_ASIDE)
    if set_aside["rows"]:
        complaints.append(
            Complaint(
                f"{_rows(set_aside['rows'])} could not be applied and stand in guardwire.set_aside"
                f" ({set_aside['reason']})",
                "`guardwire rebuild --user …` their accounts",
            )
        )
    if waiting := await connection.fetchval(_UNREAD):
        complaints.append(
            Complaint(
                f"the history of {waiting} {'account' if waiting == 1 else 'accounts'} has not been read:"
                " their status is `unknown`",
                "`guardwire migrate` reads it",
            )
        )
    return complaints


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"

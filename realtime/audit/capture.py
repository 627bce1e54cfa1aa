"""Is the capture itself whole: its triggers there and enabled, no row given up, every history read?"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

#: Every trigger that keeps the derived rows up to date, by its table.
TRIGGERS: Final = {
    "public.reconciliation_logs": ("guardwire_insert", "guardwire_update", "guardwire_gone"),
    "public.equity_snapshots": ("guardwire_insert", "guardwire_update"),
    "public.guard_limits": ("guardwire_change", "guardwire_truncate"),
    "public.instruments": ("guardwire_change", "guardwire_truncate"),
    "public.fx_rates": ("guardwire_insert",),
    "guardwire.pending": ("capture",),
}

# A trigger that fires for replicas only does not fire for a platform.
_TRIGGERS: Final = """
SELECT e.name AS "table", e.trigger, t.tgenabled IN ('O', 'A') AS enabled
FROM unnest($1::text[], $2::text[]) AS e (name, trigger)
LEFT JOIN pg_trigger AS t ON t.tgrelid = to_regclass(e.name) AND t.tgname = e.trigger AND NOT t.tgisinternal
"""
_GIVEN_UP: Final = """
SELECT count(*) AS rows, min(n.message) AS message FROM guardwire.capture_notes AS n
WHERE n.given_up_at IS NOT NULL
"""
_WAITING: Final = "SELECT count(*) FROM guardwire.accounts WHERE NOT ready"


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
    return [
        _missing(row) for row in await connection.fetch(_TRIGGERS, tables, triggers) if not row["enabled"]
    ]


def _missing(row: Any) -> Complaint:
    how = "missing" if row["enabled"] is None else "disabled"
    return Complaint(
        f"trigger {row['trigger']} on {row['table']} is {how}: what is written there does not show",
        "`guardwire migrate` puts it right, and `guardwire rebuild` what was missed",
    )


async def check_capture(connection: Any) -> list[Complaint]:
    """Everything that is wrong with the capture in the database behind ``connection`` (asyncpg's)."""
    complaints = await check_triggers(connection)
    given_up = await connection.fetchrow(_GIVEN_UP)
    if given_up["rows"]:
        complaints.append(
            Complaint(
                f"{_rows(given_up['rows'])} could not be applied and stand in guardwire.capture_notes"
                f" ({given_up['message']})",
                "mend the rows, delete their notes, and `guardwire rebuild --user …` their accounts",
            )
        )
    if waiting := await connection.fetchval(_WAITING):
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

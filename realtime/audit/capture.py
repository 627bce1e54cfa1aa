"""Whether the capture is whole: each trigger is there and enabled, no row was set aside, each history was read."""

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
# row_to_json runs a cast to json that somebody made, also for the attributes of composite types, the elements of
# arrays and the bases of domains. A cast of an extension is code that the server's administrator installed.
_CASTS: Final = """
WITH RECURSIVE types ("table", "column", type) AS (
    SELECT t.name, a.attname, a.atttypid
    FROM unnest($1::text[]) AS t (name) JOIN pg_attribute AS a ON a.attrelid = to_regclass(t.name)
    WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT o."table", o."column", i.type FROM types AS o JOIN pg_type AS t ON t.oid = o.type
    CROSS JOIN LATERAL (SELECT t.typbasetype WHERE t.typtype = 'd'
                        UNION ALL SELECT t.typelem WHERE t.typelem <> 0
                        UNION ALL SELECT a.atttypid FROM pg_attribute AS a
                                  WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS i (type)
)
SELECT DISTINCT t."table", t."column"::text AS "column", format_type(t.type, NULL) AS type,
       f.oid::regprocedure::text AS function, r.rolname::text AS "role"
FROM types AS t
JOIN pg_cast AS c ON c.castsource = t.type AND c.casttarget = 'json'::regtype
JOIN pg_proc AS f ON f.oid = c.castfunc
JOIN pg_proc AS copy ON copy.oid = to_regproc('guardwire.copy_row')
JOIN pg_roles AS r ON r.oid = copy.proowner
WHERE NOT EXISTS (SELECT FROM pg_depend AS d
                  WHERE d.classid = 'pg_cast'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2, 3
"""
_SET_ASIDE: Final = "SELECT count(*) AS rows, min(s.reason) AS reason FROM guardwire.set_aside AS s"
_UNREAD: Final = "SELECT count(*) FROM guardwire.accounts WHERE NOT ready"


class Complaint(NamedTuple):
    """A defect of the capture in one sentence, and its remedy in another."""

    wrong: str
    mend: str

    def __str__(self) -> str:
        return f"{self.wrong}; {self.mend}"


async def check_triggers(connection: Any) -> list[Complaint]:
    """Defects of the triggers in the database behind ``connection`` (asyncpg's)."""
    tables = [table for table, triggers in TRIGGERS.items() for _ in triggers]
    triggers = [trigger for group in TRIGGERS.values() for trigger in group]
    return [_complain(row) for row in await connection.fetch(_TRIGGERS, tables, triggers) if row["wrong"]]


def _complain(row: Any) -> Complaint:
    return Complaint(
        f"trigger {row['trigger']} on {row['table']} is {row['wrong']}: rows that are written there can be missed",
        "`guardwire migrate` enables it, and `guardwire rebuild` reads the rows that were missed",
    )


async def check_casts(connection: Any) -> list[Complaint]:
    """Code of others that runs while rows are copied, with the rights of the copy and not of the platform's login."""
    return [
        Complaint(
            f"column {row['column']} of {row['table']} makes each copy of a row call {row['function']},"
            f" with the rights of {row['role']}",
            f"drop the cast of {row['type']} to json, or change the column's type"
            + (
                ""
                if row["role"] == "guardwire_inbox"
                else "; `guardwire migrate --roles` takes most rights from it"
            ),
        )
        for row in await connection.fetch(_CASTS, list(TRIGGERS))
    ]


async def check_capture(connection: Any) -> list[Complaint]:
    """All defects of the capture in the database behind ``connection`` (asyncpg's)."""
    complaints = await check_triggers(connection) + await check_casts(connection)
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

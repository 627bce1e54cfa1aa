"""The tables, functions and rights that a node needs, and the check that they exist."""

from __future__ import annotations

from typing import Any, Final

_NAMED: Final = 6
#: The tables and functions of schema guardwire that a node uses, and its rights on the platform's tables.
_TABLES: Final = {
    "SELECT": (
        *(
            "public.reconciliation_logs",
            "public.equity_snapshots",
            "public.guard_limits",
            "public.instruments",
        ),
        *(
            "public.fx_rates",
            "guardwire.accounts",
            "guardwire.applier",
            "guardwire.arrivals",
            "guardwire.backfill",
        ),
        *("guardwire.breaches", "guardwire.configuration", "guardwire.epoch", "guardwire.events"),
        *("guardwire.fx_current", "guardwire.inbox", "guardwire.limits", "guardwire.market_alerts"),
        *("guardwire.migrations", "guardwire.positions", "guardwire.revocations", "guardwire.set_aside"),
        *("guardwire.alerts", "guardwire.alert_log", "guardwire.arming", "guardwire.attendance"),
        *("guardwire.attendants", "guardwire.deliveries", "guardwire.endpoints", "guardwire.escalation"),
        "guardwire.probe",
    ),
    "UPDATE": ("guardwire.epoch", "guardwire.probe"),
    "INSERT": ("guardwire.revocations",),
    "DELETE": ("guardwire.revocations",),
}
_FUNCTIONS: Final = (
    *(
        "apply",
        "apply_singly",
        "housekeep",
        "inbox_status",
        "no_account",
        "prune",
        "read_ticket",
        "read_user",
    ),
    *("release_lease", "renew_lease", "take_lease", "waiting_accounts"),
    *(
        "acknowledge",
        "snooze",
        "set_arming",
        "beat",
        "leave",
        "claim_deliveries",
        "finish_delivery",
        "delivers",
    ),
    *("put_endpoint", "delete_endpoint", "rotate_secret", "test_endpoint", "redeliver", "put_escalation"),
)
# The catalogue is searched, because to_regclass raises an error for a login that may not use the schema.
_LACKING: Final = """
SELECT 'USAGE' AS privilege, n.nspname::text AS name, false AS is_missing
FROM pg_namespace AS n WHERE n.nspname IN ('guardwire', 'public') AND NOT has_schema_privilege(n.oid, 'USAGE')
UNION ALL
SELECT w.privilege, w.name, c.oid IS NULL
FROM unnest($1::text[], $2::text[]) AS w (privilege, name)
LEFT JOIN pg_namespace AS n ON n.nspname = split_part(w.name, '.', 1)
LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = split_part(w.name, '.', 2) AND c.relkind IN ('r', 'p')
WHERE c.oid IS NULL OR NOT has_table_privilege(c.oid, w.privilege)
UNION ALL
SELECT 'EXECUTE', 'guardwire.' || w.name, p.oid IS NULL
FROM unnest($3::text[]) AS w (name)
LEFT JOIN pg_proc AS p ON p.proname = w.name AND p.pronamespace = (
    SELECT n.oid FROM pg_namespace AS n WHERE n.nspname = 'guardwire')
WHERE p.oid IS NULL OR NOT has_function_privilege(p.oid, 'EXECUTE')
"""


async def lacking_rights(driver: Any) -> str | None:
    """The rights that this login lacks, in a sentence with the remedy; None when it lacks none."""
    found = await _lacking(driver)
    lacking = sorted(f"{privilege} {name}" for privilege, name, is_missing in found if not is_missing)
    if not lacking:
        return None
    return (
        f"this login lacks rights ({_named(lacking)}); GRANT guardwire_server TO it"
        " (`guardwire migrate --roles` makes that role)"
    )


async def missing_parts(driver: Any) -> str | None:
    """A sentence about missing tables and functions of a migrated database, with the remedy; None when all exist."""
    missing = sorted({name for _, name, is_missing in await _lacking(driver) if is_missing})
    if not missing:
        return None
    return (
        f"{_named(missing)} missing; `guardwire uninstall --yes` and `guardwire migrate` make all of it anew"
    )


async def _lacking(driver: Any) -> list[tuple[str, str, bool]]:
    wanted = [(privilege, name) for privilege, names in _TABLES.items() for name in names]
    rows = await driver.fetch(
        _LACKING, [each[0] for each in wanted], [each[1] for each in wanted], list(_FUNCTIONS)
    )
    return [tuple(row) for row in rows]


def _named(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")

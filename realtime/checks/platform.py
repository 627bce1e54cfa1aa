"""All checks of a platform's database, in order. A check that fails is a finding itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import asyncpg

from realtime.checks import derived, rows
from realtime.checks.catalogue import Catalogue
from realtime.checks.finding import Finding, Report, note, problem

STATEMENT_SECONDS: Final = 10.0

#: Settings of a session that only reads, and waits for no other session.
SESSION: Final = {
    "application_name": "guardwire check-platform",
    "default_transaction_read_only": "on",
    "statement_timeout": f"{STATEMENT_SECONDS:g}s",
    "lock_timeout": "1s",
    "jit": "off",
}


async def check_platform(connection: Any, *, most_rows: int) -> Report:
    """Every finding in the database behind ``connection`` (asyncpg's).

    It reads the catalogue, at most ``most_rows`` rows of the log and of equity, and a few small tables of schema
    guardwire.
    """
    report = Report()
    catalogue = await Catalogue.read(connection)
    server = catalogue.server
    report.read["PostgreSQL"] = f"{server['version'] // 10_000}.{server['version'] % 10_000}"
    report.add(catalogue.findings())
    report.add(await _made("rows", _of_rows(connection, catalogue, report, most_rows)))
    if not catalogue.is_migrated:
        report.add(
            [note("migrate", "", "the database has not been migrated", "guardwire migrate --estimate")]
        )
        return report
    for name, check in _derived(connection, catalogue):
        report.add(await _made(name, check()))
    return report


async def _of_rows(
    connection: Any, catalogue: Catalogue, report: Report, most_rows: int
) -> Iterable[Finding]:
    if not catalogue.can_be_read("reconciliation_logs"):
        return []
    sample = await rows.Sample.read(connection, catalogue, most=most_rows)
    report.read["rows"] = sample.described()
    return list(rows.findings(sample))


def _derived(
    connection: Any, catalogue: Catalogue
) -> Iterable[tuple[str, Callable[[], Awaitable[Iterable[Finding]]]]]:
    yield "capture", lambda: derived.triggers(connection, catalogue)
    yield "applier", lambda: derived.applier(connection)
    yield "ignored", lambda: derived.ignored(connection)
    yield "clock", lambda: derived.clocks(connection, catalogue)
    yield "equity", lambda: derived.equity(connection)
    yield "rate", lambda: derived.missing_rates(connection)


async def _made(name: str, findings: Awaitable[Iterable[Finding]]) -> Iterable[Finding]:
    """The findings of one check; when the check fails, one finding with the reason."""
    try:
        return await findings
    except asyncpg.InsufficientPrivilegeError as error:
        return [
            problem(
                name,
                "",
                f"this login may not look: {error}",
                "use the login that migrates, or one of guardwire_server",
            )
        ]
    except asyncpg.QueryCanceledError:
        return [problem(name, "", f"looking took longer than {STATEMENT_SECONDS:g} s and was given up")]

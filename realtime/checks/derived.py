"""Checks of schema guardwire: triggers, rows that were ignored, clocks, accounts without equity, rates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Any, Final

from realtime.audit.capture import check_capture
from realtime.checks.catalogue import Catalogue
from realtime.checks.finding import Finding, literal, note, problem

#: When the time of a row and its arrival differ by more, the clock was wrong or the row was written late.
MOST_OFFSET_SECONDS: Final = 60.0
#: A running applier applies every row within this time.
MOST_WAIT_SECONDS: Final = 10.0
_HALF_HOUR_SECONDS: Final = 1800.0
#: The number of rows of guardwire.ignored_rows that are examined.
_MOST_IGNORED: Final = 100_000
#: When no row was ignored for so long, the platform no longer writes such rows.
_OVER_SECONDS: Final = 3600.0
_NAMED: Final = 5
_IGNORED_BECAUSE: Final = {
    "user": "user_id names no account",
    "ticket": "they are about a position, and mt5_position_id is no ticket",
    "equity": "equity is no finite number",
    "rate": "base, quote or a positive finite rate is missing",
}
_TABLE_OF: Final = {"log": "reconciliation_logs", "equity": "equity_snapshots", "fx": "fx_rates"}

_TRIGGERS: Final = """
SELECT t.tgrelid::regclass::text AS "table", t.tgname AS name, t.tgparentid <> 0 AS is_of_partition,
       t.tgenabled = 'A' AS fires
FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE t.tgname LIKE 'guardwire\\_%' AND NOT t.tgisinternal AND c.relnamespace <> 'guardwire'::regnamespace
LIMIT 10000
"""
_IGNORED: Final = """
SELECT i.source, i.reason, count(*) AS rows, count(DISTINCT i.user_id) AS accounts, max(i.noted_at) AS latest,
       max(i.noted_at) > clock_timestamp() - make_interval(secs => $2) AS goes_on,
       (array_agg(i.row_key ORDER BY i.noted_at DESC))[1] AS example
FROM (SELECT * FROM guardwire.ignored_rows ORDER BY noted_at DESC LIMIT $1) AS i
GROUP BY i.source, i.reason ORDER BY i.source, i.reason
"""
_APPLIER: Final = """
SELECT s.waiting, s.oldest_seconds,
       (SELECT l.holder IS NOT NULL AND l.held_until > clock_timestamp() FROM guardwire.applier AS l) AS has_applier
FROM guardwire.inbox_status() AS s
"""
_WITHOUT_EQUITY: Final = """
SELECT a.user_id::text FROM guardwire.accounts AS a WHERE a.ready AND a.equity IS NULL ORDER BY a.user_id LIMIT 1001
"""
# A platform that has stopped writing equity and goes on with reconciliations.
_OLD_EQUITY: Final = """
SELECT a.user_id::text FROM guardwire.accounts AS a
WHERE a.equity_at < a.last_sync_at - interval '1 hour' ORDER BY a.user_id LIMIT 1001
"""
# By how much the time of a row is later than its arrival: the median of each account's newest rows.
_OFFSETS: Final = """
SELECT a.user_id::text AS account,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM {moment} - s.arrived_at)) AS seconds
FROM (SELECT o.user_id FROM guardwire.accounts AS o ORDER BY o.revision DESC LIMIT 50) AS a
CROSS JOIN LATERAL (SELECT r.log_id, r.arrived_at FROM guardwire.arrivals AS r
                    WHERE r.user_id = a.user_id AND r.source = $1::text::"char" AND r.inserted
                      AND r.arrived_at IS NOT NULL
                    ORDER BY r.revision DESC, r.ordinal DESC LIMIT 20) AS s
JOIN public.{table} AS l ON l.id = s.log_id
WHERE isfinite(l.created_at)
GROUP BY a.user_id
"""

_MISSING_RATES: Final = """
SELECT p.quote_currency, a.currency, count(*) AS positions
FROM (SELECT * FROM guardwire.positions AS o WHERE o.is_open LIMIT 100000) AS p
JOIN guardwire.accounts AS a ON a.user_id = p.user_id AND a.currency <> p.quote_currency
WHERE NOT EXISTS (SELECT FROM guardwire.fx_current AS fx
                  WHERE (fx.base, fx.quote) IN ((p.quote_currency, a.currency), (a.currency, p.quote_currency)))
GROUP BY p.quote_currency, a.currency ORDER BY count(*) DESC LIMIT 20
"""


async def triggers(connection: Any, catalogue: Catalogue) -> list[Finding]:
    """Triggers that are missing or do not fire, rows that were set aside, and histories that were not read."""
    found = [
        problem("capture", "", complaint.wrong, complaint.mend)
        for complaint in await check_capture(connection)
    ]
    rows = await connection.fetch(_TRIGGERS)
    for row in rows:
        if row["is_of_partition"] and not row["fires"]:
            sentence = f"trigger {row['name']} on partition {row['table']} does not fire always"
            remedy = f"ALTER TABLE {row['table']} ENABLE ALWAYS TRIGGER {row['name']};"
            found.append(problem("capture", row["table"], sentence, remedy))
    moves = {row["table"].removeprefix("public.") for row in rows if row["name"] == "guardwire_move"}
    for table in ("reconciliation_logs", "equity_snapshots"):
        if catalogue.tables.get(table, {}).get("kind") == "p" and table not in moves:
            sentence = (
                f"public.{table} is partitioned and lacks guardwire_move: a row that moves counts twice"
            )
            found.append(problem("capture", table, sentence, "guardwire migrate"))
    return found


async def applier(connection: Any) -> list[Finding]:
    """Whether a process applies rows, and whether rows wait."""
    row = await connection.fetchrow(_APPLIER)
    if not row["has_applier"]:
        sentence = f"no process applies rows, and {row['waiting']:,} wait"
        level = problem if row["waiting"] else note
        return [level("applier", "", sentence, "guardwire serve, or guardwire apply")]
    if row["oldest_seconds"] > MOST_WAIT_SECONDS:
        sentence = f"{row['waiting']:,} rows wait to be applied, the oldest for {row['oldest_seconds']:.0f} s"
        return [problem("applier", "", sentence, "see docs/runbook.md, Rows wait in the inbox")]
    return []


async def ignored(connection: Any) -> list[Finding]:
    """Rows of the last days that could not be used, with the reason: a note when the last one is over an hour old."""
    found = []
    for row in await connection.fetch(_IGNORED, _MOST_IGNORED, _OVER_SECONDS):
        table, because = _TABLE_OF[row["source"]], _IGNORED_BECAUSE[row["reason"]]
        last = f"the last at {row['latest'].astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        sentence = f"{row['rows']:,} rows of public.{table} were ignored, because {because}; {last}"
        remedy = (
            f"SELECT * FROM public.{table} WHERE id = {literal(row['example'])};" if row["example"] else ""
        )
        level = problem if row["goes_on"] else note
        found.append(level("ignored", table, sentence, remedy))
    return found


async def equity(connection: Any) -> list[Finding]:
    """Accounts whose guards have no equity, or an old one."""
    found = []
    for statement, sentence in (
        (_WITHOUT_EQUITY, "have no row in public.equity_snapshots: their drawdown is `unknown`"),
        (
            _OLD_EQUITY,
            "were reconciled for more than an hour after their last equity: their guards judge old equity",
        ),
    ):
        accounts = [row["user_id"] for row in await connection.fetch(statement)]
        if accounts:
            found.append(
                problem("equity", "equity_snapshots", f"{_counted(accounts)} {sentence}", _named(accounts))
            )
    return found


async def clocks(connection: Any, catalogue: Catalogue) -> list[Finding]:
    """Tables whose times lie far from the arrival of their rows."""
    found = []
    for table, source in (("reconciliation_logs", "l"), ("equity_snapshots", "e")):
        if not catalogue.can_be_read(table):
            continue
        held = catalogue.columns[table, "created_at"]["type"]
        moment = (
            "(l.created_at AT TIME ZONE 'UTC')" if held == "timestamp without time zone" else "l.created_at"
        )
        statement = _OFFSETS.format(table=table, moment=moment)
        offsets = {row["account"]: float(row["seconds"]) for row in await connection.fetch(statement, source)}
        found += list(offset_findings(table, offsets))
    return found


def offset_findings(table: str, offsets: dict[str, float]) -> Iterator[Finding]:
    """The finding for a table's offsets, in seconds by account; positive offsets are ahead of the arrival."""
    off = {account: seconds for account, seconds in offsets.items() if abs(seconds) > MOST_OFFSET_SECONDS}
    if not off:
        return
    worst = max(off.values(), key=abs)
    where = "ahead of" if worst > 0 else "behind"
    sentence = (
        f"created_at of public.{table} is {abs(worst):.0f} s {where} the arrival of the rows in {len(off)} of"
        f" {len(offsets)} accounts{_zone(worst)}"
    )
    yield problem(
        "clock", f"{table}.created_at", sentence, "write UTC, from a clock that is synchronised (NTP)"
    )


def _zone(seconds: float) -> str:
    """A remark where an offset is a whole number of half hours, as a broker's time zone makes it."""
    hours = round(seconds / _HALF_HOUR_SECONDS) / 2
    if hours and abs(seconds - hours * 3600) < MOST_OFFSET_SECONDS:
        return f": that is a time zone, UTC{hours:+g}, as the broker's wall clock has"
    return ""


def _counted(accounts: list[str]) -> str:
    if len(accounts) > 1000:
        return "more than 1,000 accounts"
    return "1 account" if len(accounts) == 1 else f"{len(accounts)} accounts"


def _named(accounts: list[str]) -> str:
    more = ", …" if len(accounts) > _NAMED else ""
    return f"accounts: {', '.join(accounts[:_NAMED])}{more}"


async def missing_rates(connection: Any) -> list[Finding]:
    """Pairs of currencies without a rate, between open positions and their accounts."""
    found = []
    for quote, currency, positions in await connection.fetch(_MISSING_RATES):
        sentence = (
            f"there is no rate between {quote} and {currency}, which {positions:,} open positions need: their profit is"
            f" shown in {quote}, and totals over several currencies are absent"
        )
        remedy = f"INSERT INTO fx_rates (base, quote, rate) VALUES ({literal(quote)}, {literal(currency)}, <rate>);"
        found.append(problem("rate", f"{quote}{currency}", sentence, remedy))
    return found

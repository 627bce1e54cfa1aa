"""Checks of the platform's newest rows: values that cannot be used, or that would be shown wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

from queries.migrations.script import read_sql
from realtime.audit import values
from realtime.audit.book import Reference
from realtime.audit.history import Instrument
from realtime.audit.sources import EQUITY_COLUMNS, LOG_COLUMNS
from realtime.checks.catalogue import Catalogue
from realtime.checks.finding import Finding, literal, note, problem

Row = Mapping[str, Any]

_OPEN: Final = frozenset({"sync", "divergence", "warning", "unmatched_position"})
_CLOSE: Final = frozenset({"close", "position_closed"})
_KNOWN: Final = _OPEN | _CLOSE | {"guard_trigger"}
#: Symbols that REST can filter by.
_FILTERED: Final = re.compile(r"[A-Za-z0-9._#-]{1,20}")
#: 0 or an empty text, as queries/migrations/code/10_readings.sql reads them.
_NO_TICKET: Final = re.compile(r"\s*0*(\.0*)?\s*", re.ASCII)
_SUFFIX_CHARACTERS: Final = 5
_MOST_SYMBOLS: Final = 200
_MOST_INSTRUMENTS: Final = 10_000
_AHEAD_SECONDS: Final = 5.0
_OVERDUE_SECONDS: Final = 60.0
#: Columns that a platform may leave empty without any loss.
_OPTIONAL: Final = frozenset({"error_message", "divergence_reason", "status"})
_COLUMN_OF: Final = {"ticket": "mt5_position_id"}

_LEAVES: Final = """
SELECT c.oid::regclass::text AS name, pg_relation_size(c.oid) / current_setting('block_size')::integer AS blocks,
       CASE WHEN c.relpages > 0 AND c.reltuples > 0 THEN c.reltuples / c.relpages ELSE 30 END AS rows_in_block
FROM pg_class AS c
WHERE c.relkind = 'r' AND pg_relation_size(c.oid) > 0
  AND c.oid IN (SELECT to_regclass($1)
                UNION ALL SELECT p.relid FROM pg_partition_tree(to_regclass($1)) AS p WHERE p.isleaf)
ORDER BY c.oid DESC LIMIT 8
"""
_INSTRUMENTS: Final = "SELECT symbol::text FROM public.instruments LIMIT $1"


@dataclass(frozen=True)
class Sample:
    """The newest rows of the log and of equity, with the database's time of the read."""

    now: datetime
    log: Sequence[Row]
    equity: Sequence[Row]
    instruments: frozenset[str]

    @classmethod
    async def read(cls, connection: Any, catalogue: Catalogue, *, most: int) -> Sample:
        """Read at most ``most`` rows of each readable table.

        The rows come by the index on their time, if there is one. Otherwise they come from the last pages of the table,
        which hold the newest rows of a table that is only appended to.
        """
        return cls(
            now=await connection.fetchval("SELECT clock_timestamp()"),
            log=await _newest(connection, catalogue, "reconciliation_logs", LOG_COLUMNS, most),
            equity=await _newest(connection, catalogue, "equity_snapshots", EQUITY_COLUMNS, most),
            instruments=await _instruments(connection, catalogue),
        )

    def described(self) -> str:
        """The number of rows of the log, and their range of times."""
        times = sorted(time for row in self.log if (time := values.moment(row["created_at"])))
        span = f" from {times[0]:%Y-%m-%d %H:%M:%S} to {times[-1]:%Y-%m-%d %H:%M:%S} UTC" if times else ""
        return f"{len(self.log):,} newest rows of the log{span}"


async def _newest(
    connection: Any, catalogue: Catalogue, table: str, names: Mapping[str, str], most: int
) -> list[Row]:
    if not catalogue.can_be_read(table):
        return []
    columns = ", ".join(
        f"{_readable(f't.{column}', catalogue.columns[table, column]['type'])} AS {name}"
        for name, column in names.items()
    )
    if catalogue.has_index(table, "created_at"):
        statement = f"SELECT {columns} FROM public.{table} AS t ORDER BY t.created_at DESC LIMIT $1"
        return [dict(row) for row in await connection.fetch(statement, most)]
    found: list[Row] = []
    for leaf in await connection.fetch(_LEAVES, f"public.{table}"):
        blocks = max(1, round(most / leaf["rows_in_block"]))
        # A scan of a range of pages reads these pages and no others.
        statement = f"SELECT {columns} FROM ONLY {leaf['name']} AS t WHERE t.ctid >= $1::text::tid LIMIT $2"
        first = f"({max(0, leaf['blocks'] - blocks)},0)"
        found += [dict(row) for row in await connection.fetch(statement, first, 2 * most)]
    found.sort(key=lambda row: row["created_at"].timestamp() if row["created_at"] else 0.0, reverse=True)
    return found[:most]


def _readable(column: str, column_type: str) -> str:
    """SQL for a value: text, or a time in UTC; null for a time that Python cannot represent."""
    if not column_type.startswith("timestamp "):
        return f"{column}::text"
    moment = f"({column} AT TIME ZONE 'UTC')" if column_type == "timestamp without time zone" else column
    return (
        f"CASE WHEN {moment} >= '1970-01-01 00:00:00+00'::timestamptz"
        f" AND {moment} < '9999-12-31 00:00:00+00'::timestamptz THEN {moment} END"
    )


async def _instruments(connection: Any, catalogue: Catalogue) -> frozenset[str]:
    known: set[str] = set()
    if catalogue.can_be_read("instruments"):
        rows = await connection.fetch(_INSTRUMENTS, _MOST_INSTRUMENTS)
        known = {values.fold(values.symbol(row[0])) for row in rows}
    if not catalogue.is_migrated:
        known.update(re.findall(r"\('([A-Z0-9]+)', \d", read_sql("tables", "0001b_instruments.sql")))
    return frozenset(known)


def findings(sample: Sample) -> Iterator[Finding]:
    """All findings in the rows."""
    if sample.log:
        yield from _kinds(sample)
        yield from _identities(sample)
        yield from _symbols(sample)
        yield from _values(sample)
        yield from _times(sample)
        yield from _intervals(sample)
        yield from _empty_columns("reconciliation_logs", sample.log)
    else:
        yield note("rows", "reconciliation_logs", "public.reconciliation_logs has no row")
    if sample.equity:
        yield from _equity(sample)


def _event(row: Row) -> str:
    return values.lowered(values.trimmed(row["event_type"]))


def about_positions(rows: Sequence[Row]) -> list[Row]:
    """The rows about a position."""
    return [row for row in rows if _event(row) in _OPEN | _CLOSE and not _is_loop(row)]


def _is_loop(row: Row) -> bool:
    """Whether it is a sync without a ticket, which says that the reconciliation ran."""
    is_sync = _event(row) == "sync" and values.lowered(values.trimmed(row["status"])) != "failed"
    return is_sync and _NO_TICKET.fullmatch(row["ticket"] or "") is not None


def _share(count: int, whole: int) -> str:
    return f"{count:,} of {whole:,} rows"


def _kinds(sample: Sample) -> Iterator[Finding]:
    """Rows that Guardwire ignores."""
    events = Counter(_event(row) for row in sample.log)
    for event, count in sorted(events.items()):
        if event not in _KNOWN:
            name = f"event_type {event!r}" if event else "no event_type"
            yield note("event", event, f"{_share(count, len(sample.log))} have {name}, and are not used")
    about = about_positions(sample.log)
    if not events.keys() & (_OPEN | _CLOSE):
        yield problem(
            "event", "sync", "no row is about a position: event_type has to be sync, close or one like them"
        )
    elif about and not any(_is_matched(row) for row in about):
        yield problem("matched", "matched", "no row has matched = 1, so no position is listed")
    odd = Counter(
        row["matched"] for row in about if row["matched"] is not None and not _is_known_match(row["matched"])
    )
    for value, count in odd.most_common(3):
        yield problem(
            "matched", "matched", f"{_share(count, len(about))} have matched = {value}, which counts as 0"
        )


def _is_matched(row: Row) -> bool:
    return str(row["matched"]).strip().lower() in ("1", "true", "t")


def _is_known_match(value: Any) -> bool:
    return str(value).strip().lower() in ("0", "1", "2", "true", "false")


def _identities(sample: Sample) -> Iterator[Finding]:
    """Rows without a valid account or ticket."""
    users = [row for row in sample.log if values.user(row["user_id"]) is None]
    if users:
        sentence = f"{_share(len(users), len(sample.log))} name no account: user_id is null or no UUID"
        yield problem("user", "user_id", sentence, _look_at(users[0]))
    about = about_positions(sample.log)
    tickets = [row for row in about if not _has_ticket(row)]
    if tickets:
        sentence = (
            f"{_share(len(tickets), len(about))} about a position have no usable ticket, and are ignored"
        )
        yield problem("ticket", "mt5_position_id", sentence, _look_at(tickets[0]))


def _look_at(row: Row) -> str:
    return f"SELECT * FROM public.reconciliation_logs WHERE id = {literal(row['id'])};"


def _is_report(row: Row) -> bool:
    """Whether the row says how a position is; a failed sync only says why it does not."""
    return _event(row) in _OPEN and values.lowered(values.trimmed(row["status"])) != "failed"


def _has_ticket(row: Row) -> bool:
    digits = re.fullmatch(r"\s*0*([0-9]{1,19})(\.0*)?\s*", row["ticket"] or "")
    return digits is not None and values.ticket(int(digits[1])) is not None


def _symbols(sample: Sample) -> Iterator[Finding]:
    """Symbols whose profit cannot be computed, with a statement for each that resembles a known instrument."""
    about = about_positions(sample.log)
    counted = Counter(symbol for row in about if (symbol := values.symbol(row["symbol"])))
    without = sum(values.symbol(row["symbol"]) is None and _is_report(row) for row in about)
    if without:
        yield problem("symbol", "symbol", f"{_share(without, len(about))} about a position have no symbol")
    known = Reference({name: _one_unit(name) for name in sample.instruments}, {})
    for symbol, count in counted.most_common(_MOST_SYMBOLS):
        if known.find(symbol) is None:
            yield _unknown_symbol(symbol, _share(count, len(about)), sample.instruments)
        if not _FILTERED.fullmatch(symbol):
            yield note(
                "symbol",
                symbol,
                f"symbol {symbol!r} cannot be asked for by ?symbol=: letters, digits and . _ # - can",
            )


def _one_unit(symbol: str) -> Instrument:
    return Instrument(symbol=symbol, contract_size=Decimal(1), quote_currency="USD")


def _unknown_symbol(symbol: str, share: str, instruments: frozenset[str]) -> Finding:
    meant = instrument_of(symbol, instruments)
    looks = f" (it looks like {meant} with a suffix)" if meant else ""
    sentence = (
        f"symbol {symbol}, in {share}, has no instrument{looks}: its profit assumes a contract size of 1"
    )
    columns = "INSERT INTO instruments (symbol, contract_size, pip_size, quote_currency)"
    name = literal(values.fold(symbol))
    if meant:
        values_of = f"SELECT {name}, contract_size, pip_size, quote_currency FROM instruments WHERE symbol = '{meant}'"
    else:
        values_of = f"VALUES ({name}, <units in one lot>, <price of one pip>, '<currency of its price>')"
    return problem("symbol", symbol, sentence, f"{columns} {values_of};")


def instrument_of(symbol: str, instruments: frozenset[str]) -> str | None:
    """The longest known instrument that a broker's symbol may mean; None when there is none.

    Brokers put ``#`` before the name, and a few characters behind it. Not all of that is understood: ``EURUSDX`` may be
    another instrument than EURUSD.
    """
    name = values.fold(symbol).lstrip("#")
    found = [
        known
        for known in instruments
        if name.startswith(known) and len(name) - len(known) <= _SUFFIX_CHARACTERS
    ]
    return max(found, key=len, default=None)


_USABLE: Final[Mapping[str, Callable[[Any], object]]] = {
    "direction": values.direction,
    "volume": values.volume,
    "entry_price": values.number,
}


def _values(sample: Sample) -> Iterator[Finding]:
    """Missing values without which a position has no profit, and market conditions without figures."""
    about = [row for row in about_positions(sample.log) if _is_report(row)]
    for column, read in _USABLE.items():
        unusable = sum(read(row[column]) is None for row in about)
        if unusable:
            sentence = f"{_share(unusable, len(about))} of an open position lack a usable {column}: profit is unknown"
            yield problem("value", column, sentence)
    triggers = [row for row in sample.log if _event(row) == "guard_trigger"]
    unmeasured = sum(_lacks_figures(row) for row in triggers)
    if unmeasured:
        sentence = f"{_share(unmeasured, len(triggers))} about a gap or spread lack one of two prices, and are warnings"
        yield note("value", "guard_trigger", sentence)


def _lacks_figures(row: Row) -> bool:
    reason = values.lowered(values.trimmed(row["divergence_reason"]))
    is_measured = (
        values.number(row["entry_price"]) is not None and values.number(row["current_price"]) is not None
    )
    return not is_measured and ("gap" in reason or "spread" in reason)


def _times(sample: Sample) -> Iterator[Finding]:
    """Times that must be wrong."""
    latest = sample.now + timedelta(seconds=_AHEAD_SECONDS)
    ahead = [
        row["created_at"]
        for row in sample.log
        if row["created_at"] is not None and row["created_at"] > latest
    ]
    if ahead:
        sentence = (
            f"created_at of {_share(len(ahead), len(sample.log))} is in the future, by up to"
            f" {(max(ahead) - sample.now).total_seconds():.0f} s: such rows count at their arrival"
        )
        yield problem("clock", "created_at", sentence, "write UTC, from a clock that is synchronised (NTP)")
    undated = sum(row["created_at"] is None for row in sample.log)
    if undated:
        sentence = f"{_share(undated, len(sample.log))} have no usable created_at, and count at their arrival"
        yield note("clock", "created_at", sentence)


def _intervals(sample: Sample) -> Iterator[Finding]:
    """Accounts whose reconciliations are so far apart that the source becomes silent in between."""
    gaps = sync_gaps(sample.log)
    seldom = [seconds for seconds in gaps.values() if seconds > _OVERDUE_SECONDS]
    if seldom:
        sentence = (
            f"{len(seldom)} of {len(gaps)} accounts are reconciled less often than every {_OVERDUE_SECONDS:g} s, the"
            f" slowest every {max(seldom):.0f} s: they are `silent` in between, unless their limits"
            " (guard_limits.sync_overdue_seconds) allow more"
        )
        yield note("clock", "sync_overdue_seconds", sentence)


def sync_gaps(rows: Sequence[Row]) -> dict[str, float]:
    """Seconds between the reconciliations of each account that has three or more: the median."""
    times: dict[str, set[datetime]] = {}
    for row in rows:
        if _event(row) == "sync" and row["created_at"] is not None and row["user_id"] is not None:
            times.setdefault(row["user_id"], set()).add(row["created_at"].replace(microsecond=0))
    gaps: dict[str, float] = {}
    for user, moments in times.items():
        ordered = sorted(moments)
        between = sorted((after - before).total_seconds() for before, after in pairwise(ordered))
        if len(between) > 1:
            gaps[user] = between[len(between) // 2]
    return gaps


def _empty_columns(table: str, rows: Sequence[Row]) -> Iterator[Finding]:
    """Columns that Guardwire reads and that no row fills."""
    empty = sorted(
        _COLUMN_OF.get(name, name)
        for name in rows[0]
        if name not in _OPTIONAL and all(row[name] is None for row in rows)
    )
    if empty:
        yield note(
            "column",
            table,
            f"in the newest {len(rows):,} rows of public.{table} nothing fills {', '.join(empty)}",
        )


def _equity(sample: Sample) -> Iterator[Finding]:
    """Equity rows that guards cannot use, and accounts of the log without equity."""
    unusable = [row for row in sample.equity if values.number(row["equity"]) is None]
    if unusable:
        sentence = (
            f"{_share(len(unusable), len(sample.equity))} of public.equity_snapshots have no finite equity"
        )
        yield problem("equity", "equity", sentence)
    currencies = Counter(values.currency(row["currency"]) for row in sample.equity)
    for currency, count in currencies.most_common():
        if currency is None or not re.fullmatch("[A-Z]{3,5}", currency):
            sentence = f"{_share(count, len(sample.equity))} of public.equity_snapshots have the currency {currency!r}"
            yield problem(
                "equity", "currency", sentence, "write the code of the account's currency, such as USD"
            )
    without = sum(values.number(row["balance"]) is None for row in sample.equity)
    if without:
        sentence = f"{_share(without, len(sample.equity))} of public.equity_snapshots have no balance"
        yield note("equity", "balance", sentence)
    if not any(values.number(row["cash_flow"]) for row in sample.equity):
        sentence = "no row of public.equity_snapshots has a cash_flow: deposits and withdrawals count as profit or loss"
        yield note("equity", "cash_flow", sentence)

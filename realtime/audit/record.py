"""The record of one account: the platform's own rows, and the order in which they were applied.

The record is read in one snapshot of the database. It holds a bounded number of rows: the newest by time, and those
that were applied last. A row that waits in the inbox is on record as it was applied before, or not at all. Fields of
`Record` say what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple
from uuid import UUID

from realtime.audit import values
from realtime.audit.clock import Clock, settle
from realtime.audit.history import (
    AlertsEnded,
    Arrival,
    EquityRow,
    FxRate,
    Instrument,
    Limits,
    LogRow,
    backfill_order,
)
from realtime.audit.sources import EQUITY_COLUMNS, LOG_COLUMNS, Sources

#: Rows fetched from the cursor at a time: few enough that the event loop is not held up by any one fetch.
_AT_ONCE: Final = 200
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: The columns of guard_limits that are numbers.
_NUMBERS: Final = tuple(name for name in Limits.__dataclass_fields__ if name not in ("user_id", "peak_since"))
_MATCHED: Final = {"1": 1, "2": 2, "true": 1}
#: The applier takes milliseconds. Rows that waited longer than this held up housekeeping, too.
_HELD_UP: Final = timedelta(seconds=10)

# All but the rows that may be many, in one statement: an audit is what an idle node sends most of.
_ACCOUNT: Final = """
SELECT statement_timestamp() AS now,
       coalesce((SELECT a.ready FROM guardwire.accounts AS a WHERE a.user_id = $1), b.done) AS ready,
       -- An hour less, because the platform's clock may be ahead of the database's.
       greatest(b.started_at, statement_timestamp() - make_interval(hours => c.arrival_hours - 1))
           AS arrivals_since,
       statement_timestamp() - make_interval(hours => c.arrival_hours - 1) > b.started_at AS forgets,
       EXISTS (SELECT FROM guardwire.inbox AS i WHERE i.account = $1) AS rows_wait,
       EXISTS (SELECT FROM guardwire.inbox AS i
               WHERE i.account IN ($1, guardwire.no_account()) AND i.source = 'g') AS limits_wait,
       EXISTS (SELECT FROM guardwire.inbox AS i
               WHERE i.account = guardwire.no_account() AND i.source IN ('i', 'x')) AS reference_waits,
       (SELECT a.clock_stepped_at FROM guardwire.accounts AS a WHERE a.user_id = $1) AS clock_stepped_at,
       ARRAY(SELECT ROW(f.base, f.quote) FROM guardwire.fx_current AS f WHERE f.clock_stepped_at IS NOT NULL)
           AS stepped_pairs,
       ARRAY(SELECT s.new_row ->> 'id' FROM guardwire.set_aside AS s WHERE s.account = $1) AS set_aside,
       ARRAY(SELECT ROW(a.kind, a.symbol, a.condition_type, a.stands, a.resolved_at IS NOT NULL,
                        a.acknowledged_at IS NOT NULL)
             FROM guardwire.alerts AS a
             WHERE a.user_id = $1 AND a.kind IN ('drawdown', 'market') AND (a.stands OR a.resolved_at IS NULL))
           AS alerts,
       ARRAY(SELECT u.written FROM guardwire.log_users AS u WHERE u.user_id = $1) AS written,
       ARRAY(SELECT ROW(CASE WHEN l.peak_since < '9999-12-31 00:00:00+00' THEN l.peak_since END, {limits})
             FROM public.guard_limits AS l WHERE l.user_id = $1) AS limits,
       ARRAY(SELECT ROW(i.symbol::text, i.contract_size, i.quote_currency::text) FROM public.instruments AS i)
           AS instruments,
       p.rates_are_few,
       ARRAY(SELECT ROW(r.base, r.quote, r.rate, r.at) FROM ({rates}) AS r WHERE p.rates_are_few) AS rates
FROM guardwire.backfill AS b, guardwire.configuration AS c,
     (SELECT greatest(reltuples, 0) <= $2::bigint AS rates_are_few FROM pg_class
      WHERE oid = 'public.fx_rates'::regclass) AS p
"""


class GuardAlert(NamedTuple):
    """An alert of a guard that the capture takes for critical, or that is not resolved."""

    kind: str
    symbol: str | None
    condition_type: str | None
    stands: bool
    is_resolved: bool
    is_acknowledged: bool

    @property
    def name(self) -> str:
        """Name of its guard: the drawdown, or a market condition by its key."""
        return self.kind if self.kind == "drawdown" else f"{values.fold(self.symbol)}:{self.condition_type}"


@dataclass
class Record:
    """The record of ``user_id`` at one moment, ``now``."""

    user_id: UUID
    now: datetime
    #: False while its history is being read: until then nothing is promised.
    ready: bool
    #: From then on every row that was committed should have an arrival.
    arrivals_since: datetime
    #: Arrivals before ``arrivals_since`` were recorded too, and may have been forgotten since.
    forgets: bool
    #: Everything in the order in which it counts, settled.
    history: list[Arrival] = field(default_factory=list)
    #: Since this arrival the platform's clock is known to have gone back, where the rows that showed it are forgotten.
    stepped_at: datetime | None = None
    #: The moment of that step as the capture keeps it in `guardwire.accounts`.
    held_step: datetime | None = None
    #: The platform's clock as the history shows it.
    clock: Clock = field(init=False)
    #: None where the account has never been given limits of its own.
    limits: Limits | None = None
    instruments: list[Instrument] = field(default_factory=list)
    #: As the capture keeps them.
    alerts: list[GuardAlert] = field(default_factory=list)
    #: When rows were applied, by id; rows whose arrival is not on record are missing.
    applied: dict[str, datetime] = field(default_factory=dict)
    #: Ids of rows that could not be applied.
    set_aside: set[str] = field(default_factory=set)
    #: Ids of rows that were changed in place: what they said before is not on record.
    updated: set[str] = field(default_factory=set)
    #: Rows of the log before this moment were not all read; None where all were.
    log_begins: datetime | None = None
    #: Rows of equity were changed in place: what they said before is not on record.
    equity_was_corrected: bool = False
    #: Rows of equity up to this moment were not all read; None where all were.
    equity_begins: datetime | None = None
    #: The rows of equity that were read are the last to arrive, in the order of their times.
    equity_is_appended: bool = False
    #: All rows of equity that were read are of that moment: others of it may have come before or after them.
    equity_is_tied: bool = False
    #: When the latest row of the log was applied that is gone by now; None where none is known to be gone.
    gone_until: datetime | None = None
    #: The same of equity.
    equity_gone_until: datetime | None = None
    #: Limits wait in the inbox: values that depend on them are in doubt.
    limits_wait: bool = False
    #: Instruments or rates wait in the inbox: amounts are in doubt.
    reference_waits: bool = False
    #: Until then rows waited so long that housekeeping may have work to catch up on; None where no row did.
    held_up_until: datetime | None = None
    #: Pairs of currencies without a certain rate; None where no rate was read.
    unsure_rates: set[tuple[str, str]] | None = field(default_factory=set)
    rows: int = 0

    @property
    def log(self) -> list[tuple[Arrival, LogRow]]:
        """Its rows of the log, in order."""
        return [(each, each.change) for each in self.history if isinstance(each.change, LogRow)]

    @property
    def equity(self) -> list[tuple[Arrival, EquityRow]]:
        """Its rows of equity, in order."""
        return [(each, each.change) for each in self.history if isinstance(each.change, EquityRow)]

    @property
    def rates(self) -> list[FxRate]:
        """The newest rates of all pairs."""
        return [each.change for each in self.history if isinstance(each.change, FxRate)]

    def arrived(self, created_at: datetime) -> datetime:
        """About when a row of this time arrived, by what is known of the platform's clock."""
        return created_at + timedelta(seconds=self.clock.offset_seconds or 0)

    @property
    def passed_by(self) -> int:
        """How many rows were written past the triggers: they are young, and no trigger copied them."""
        since = self.arrivals_since
        if self.log_begins is not None:
            since = max(since, self.log_begins + timedelta(hours=1))
        rows = [change for _, change in self.log] + [change for _, change in self.equity]
        return sum(
            row.id not in self.applied.keys() | self.set_aside and (moment := values.moment(row.created_at)) is not None
            and since < self.arrived(moment) <= self.now
            for row in rows
        )  # fmt: skip


async def read_record(
    connection: Any, sources: Sources, user_id: UUID, *, most_rows: int, most_rates: int
) -> Rows:
    """Read the record of one account, at most its ``most_rows`` newest rows of each table.

    ``connection`` (asyncpg's) is within a transaction that sees one snapshot. Rates are read where
    there are at most about ``most_rates`` of them.
    """
    statement = _ACCOUNT.format(
        limits=", ".join(f"to_jsonb(l) ->> '{name}'" for name in _NUMBERS), rates=sources.rates
    )
    found = await connection.fetchrow(statement, user_id, most_rates)
    record = Record(user_id, found["now"], found["ready"], found["arrivals_since"], found["forgets"])
    record.limits_wait, record.reference_waits = found["limits_wait"], found["reference_waits"]
    record.held_up_until = found["now"] if found["rows_wait"] else None
    record.held_step = found["clock_stepped_at"]
    if record.held_step is not None and record.held_step < record.arrivals_since:
        record.stepped_at = record.held_step
    record.set_aside = set(found["set_aside"])
    record.alerts = [GuardAlert(*row) for row in found["alerts"]]
    record.instruments = [each for row in found["instruments"] if (each := _instrument(*row)) is not None]
    record.limits = next((_limits(user_id, row) for row in found["limits"]), None)
    rows = Rows(record)
    if found["rates_are_few"]:
        rows.rates = _rates(found["rates"], record)
        assert record.unsure_rates is not None
        # Which rate came last is not on record, only which has the latest time.
        record.unsure_rates |= {(base, quote) for base, quote in found["stepped_pairs"]}
    for kind, statement, parameters in (
        (LogRow, sources.log, (user_id, _forms(user_id, found["written"]), most_rows)),
        (EquityRow, sources.equity, (user_id, most_rows)),
    ):
        read = arrivals = 0
        async for row in connection.cursor(statement, *parameters, prefetch=_AT_ONCE):
            read += 1
            rows.take(row, kind)
            arrivals = row.get("arrivals", 0)
        if kind is LogRow and max(read, arrivals) >= most_rows:
            record.log_begins = rows.complete_since()
            rows.has_all_arrivals = arrivals < most_rows
        if kind is EquityRow:
            record.equity_is_appended = read <= most_rows and rows.equity_is_in_order()
        record.rows += read
    rows.leave_out_early_equity()
    return rows


@dataclass
class Rows:
    """Rows of a record as they were read; putting them in order takes time in proportion to their number."""

    record: Record
    placed: list[tuple[int, int, datetime, LogRow | EquityRow]] = field(default_factory=list)
    unplaced: list[LogRow | EquityRow] = field(default_factory=list)
    times: list[datetime] = field(default_factory=list)
    #: Whether every recorded arrival of a row of the log was read.
    has_all_arrivals: bool = True
    #: None where they were not read.
    rates: list[FxRate] | None = None

    def complete_since(self) -> datetime:
        """From when on no row of the log is missing, whether it counts by its own time or by its arrival.

        A row without a usable time that was not read was applied before all that were read, and arrived before that.
        """
        now = self.record.now
        applied = (_moment(revision) for revision, _, _, _ in self.placed)
        return max(min(self.times, default=now), min(applied, default=now))

    def take(self, row: Mapping[str, Any], kind: type) -> None:
        """Take one row; a row without an id was applied and is gone."""
        record, revision = self.record, row["revision"]
        if kind is EquityRow:
            record.equity_begins = row["begins_at"]
        elif row["listed_at"] is not None:
            self.times.append(row["listed_at"])
        change = None
        if row["id"] is not None:
            change = _log_row(row) if kind is LogRow else _equity_row(row)
        if change is None or values.user(change.user_id) != record.user_id:
            # Nothing of the row was applied, or it is gone: deleted, moved to another account, or inserted anew.
            if revision is not None and kind is LogRow:
                record.gone_until = _later(record.gone_until, _moment(revision))
            elif revision is not None:
                record.equity_gone_until = _later(record.equity_gone_until, _moment(revision))
        elif revision is None:
            self.unplaced.append(change)
        else:
            self._place(change, revision, row)

    def _place(self, change: LogRow | EquityRow, revision: int, row: Mapping[str, Any]) -> None:
        record, applied = self.record, _moment(revision)
        record.applied[change.id] = applied
        if applied - row["arrived_at"] > _HELD_UP:
            record.held_up_until = _later(record.held_up_until, applied)
        if not row["untouched"] and isinstance(change, LogRow):
            record.updated.add(change.id)
        elif not row["untouched"]:
            record.equity_was_corrected = True
        self.placed.append((revision, row["ordinal"], row["arrived_at"], change))

    def equity_is_in_order(self) -> bool:
        """Whether it is on record that the rows of equity arrived in the order of their times."""
        arrived = [
            (revision, ordinal, values.moment(change.created_at) or arrived_at)
            for revision, ordinal, arrived_at, change in self.placed
            if isinstance(change, EquityRow)
        ]
        times = [moment for _, _, moment in sorted(arrived)]
        return times == sorted(times) and not any(isinstance(each, EquityRow) for each in self.unplaced)

    def leave_out_early_equity(self) -> None:
        """Leave out equity rows that are older than those that were all read: later cash flows may be missing."""
        begins = self.record.equity_begins
        if begins is None:
            return
        early = {
            change.id
            for change, arrived_at in (
                *((change, arrived_at) for _, _, arrived_at, change in self.placed),
                *((change, self.record.now) for change in self.unplaced),
            )
            if isinstance(change, EquityRow) and (values.moment(change.created_at) or arrived_at) <= begins
        }
        placed = [each for each in self.placed if each[3].id not in early]
        unplaced = [each for each in self.unplaced if each.id not in early]
        if any(isinstance(change, EquityRow) for change in (*unplaced, *(each[3] for each in placed))):
            self.placed, self.unplaced = placed, unplaced
        else:
            self.record.equity_is_tied = True

    def in_order(self) -> Record:
        """The record, with a history: first the rows that nobody saw arrive, as when history is read."""
        record = self.record
        if self.rates is None:
            record.unsure_rates = None
        found = [] if record.limits is None else [Arrival(record.limits, 0, _EPOCH)]
        found += [Arrival(rate, 0, record.now) for rate in self.rates or ()]
        found += [self._unseen(each) for each in backfill_order(self.unplaced, record.now)]
        found += [
            Arrival(change, 0, arrived_at)
            for _, _, arrived_at, change in sorted(self.placed, key=lambda each: each[:2])
        ]
        found.append(Arrival(AlertsEnded(record.user_id), 0, record.now))
        record.history, record.clock = settle(
            [replace(each, order=order) for order, each in enumerate(found, 1)],
            record.user_id,
            record.stepped_at,
        )
        return record

    def _unseen(self, arrival: Arrival) -> Arrival:
        """A row whose arrival was not read: of the log, it is earlier than the arrivals that were."""
        moment = arrival.time
        if isinstance(arrival.change, LogRow) and not self.has_all_arrivals:
            listed = (at for _, _, at, change in self.placed if isinstance(change, LogRow))
            moment = min(moment, min(listed, default=moment))
        return replace(arrival, at=moment)


def _moment(revision: int) -> datetime:
    """Clock of the database at a revision; a moment later where accounts changed faster than it ticks."""
    return _EPOCH + timedelta(microseconds=revision)


def _later(moment: datetime | None, other: datetime) -> datetime:
    return other if moment is None else max(moment, other)


def _instrument(
    symbol: str | None, contract_size: Decimal | None, quote_currency: str | None
) -> Instrument | None:
    """An instrument; None where one of the columns cannot be used."""
    name, size, currency = (
        values.symbol(symbol),
        values.number(contract_size),
        values.currency(quote_currency),
    )
    if name is None or size is None or size <= 0 or currency is None:
        return None
    return Instrument(symbol=values.fold(name), contract_size=size, quote_currency=currency)


def _limits(user_id: UUID, row: Sequence[Any]) -> Limits:
    """Limits of an account; a column that cannot be used has its default."""
    peak_since, *texts = row
    found = {name: values.number(text) for name, text in zip(_NUMBERS, texts, strict=True)}
    usable: dict[str, Any] = {
        name: int(number) if name.endswith("_seconds") else number
        for name, number in found.items()
        if number is not None
    }
    return Limits(user_id=user_id, peak_since=values.moment(peak_since), **usable)


def _rates(rows: Iterable[Sequence[Any]], record: Record) -> list[FxRate]:
    """The newest rate of each pair; a pair is unsure where two are equally new or one has no time."""
    rates: dict[tuple[str, str], FxRate] = {}
    assert record.unsure_rates is not None
    for base, quote, number, at in rows:
        pair = base, quote
        rate = FxRate(base=base, quote=quote, rate=Decimal(number), created_at=at)
        if at is None or at > record.now or (pair in rates and rates[pair].rate != rate.rate):
            record.unsure_rates.add(pair)
        rates[pair] = rate
    return list(rates.values())


def _forms(user_id: UUID, written: list[str]) -> list[str]:
    """How a platform whose column is text may have written a user."""
    plain = [str(user_id), user_id.hex]
    braced = [f"{{{form}}}" for form in plain]
    return sorted({*plain, *braced, *(form.upper() for form in (*plain, *braced)), *written})


def _log_row(row: Mapping[str, Any]) -> LogRow:
    fields = {name: row[name] for name in LOG_COLUMNS}
    matched = fields["matched"]
    fields["matched"] = None if matched is None else _MATCHED.get(values.trimmed(matched), 0)
    fields["ticket"] = _ticket(fields["ticket"])
    return LogRow(**fields)


def _ticket(text: str | None) -> int | None:
    try:
        number = Decimal(values.trimmed(text) or "NaN")
    except ArithmeticError:
        return None
    return int(number) if number.is_finite() and number == number.to_integral_value() else None


def _equity_row(row: Mapping[str, Any]) -> EquityRow:
    fields = {name: row[name] for name in EQUITY_COLUMNS}
    return EquityRow(**{**fields, "user_id": UUID(fields["user_id"])})

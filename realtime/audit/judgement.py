"""Compares the state that the live queries give with the record.

The record is the platform's rows as they are now, less the changes that wait in the inbox. Rows that were removed,
versions that were overwritten, limits that held before and, after some days, the order of arrival are not in it.
A difference that one of those could explain is a doubt, and no doubt is reported as a difference: an alarm means
that something is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from realtime.audit import values
from realtime.audit.difference import ABSENT, Findings, same
from realtime.audit.doubt import Doubt
from realtime.audit.history import Arrival, GhostsNoted, Limits
from realtime.audit.money import fall, level, shown_pct
from realtime.audit.occurrences import LISTED_EVENTS, log_events, newest
from realtime.audit.record import GuardAlert, Record
from realtime.audit.state import Oracle, error_message, warning, wire

State = Mapping[str, Any]

_BOOK: Final = ("status", "open_positions_count", "matched_positions", "divergences_detected")
_TOTALS: Final = ("total_positions", "total_unrealized_pnl", "currency")
_PRICE: Final = ("current_price", "unrealized_pnl_pct")
_PROFIT: Final = ("unrealized_pnl", "pnl_currency")
#: Fields of a position that have doubts of their own; the others are as certain as its ticket.
_DOUBTED_APART: Final = {
    *_PRICE, *_PROFIT, "position_id", "entry_time", "last_updated_at", "contract_size_assumed", "unconfirmed_since",
}  # fmt: skip
_OVERALL: Final = ("system_status", "any_positions_should_close")
_LATEST: Final = ("current_equity", "currency", "last_checked_at")
_IN_DOUBT: Final = ("doubt", "doubted_equity")
_LEVELS: Final = ("warning_pct", "critical_pct", "minimum_equity")
_MEASURED: Final = ("alert_type", "should_close_all", "alert_threshold_pct", "current_drawdown_pct")
_EVENT: Final = (
    "event_type", "created_at", "symbol", "mt5_ticket", "matched", "pnl_gbp", "divergence_reason"
)  # fmt: skip
#: An alert of a guard that is critical is open, or was acknowledged and has no position open.
_OPEN: Final = "open"
_SETTLED: Final = "settled"
#: Housekeeping, which turns time into commits, runs every few seconds; this is long past that.
_OVERDUE: Final = timedelta(seconds=60)
#: Housekeeping and the audit may disagree about the clock by this much.
_CLOCK_STEP: Final = timedelta(seconds=6)


def judge(record: Record, shown: State) -> Findings:
    """Compare all channels of one account; ``shown`` is what the live queries gave in the same snapshot."""
    return _Judge(record, shown).judge()


class _Judge:
    def __init__(self, record: Record, shown: State) -> None:
        self._record = record
        self._shown = shown
        self._limits = record.limits or Limits(user_id=record.user_id)
        self._expected = Oracle(record.user_id, record.instruments, record.stepped_at).state(
            [*record.history, self._look()]
        )
        self._doubt = Doubt(record, shown)
        self._found = Findings()

    def judge(self) -> Findings:
        self._positions()
        self._status()
        self._source()
        self._events()
        self._guards()
        self._breaches()
        self._guard_alerts()
        return self._found

    def _look(self) -> Arrival:
        """Housekeeping's last look for positions that are no longer mentioned: as shown, unless it is long due."""
        positions = self._shown["positions"]
        shown = {
            int(ticket)
            for ticket, position in {**positions["open"], **positions.get("unmatched", {})}.items()
            if "unconfirmed_since" in position
        }
        overdue = timedelta(seconds=self._limits.sync_overdue_seconds)
        signs = [arrival.at for arrival in self._record.history if arrival.is_alive]
        # An account that fell silent by other limits is not looked at again.
        is_due = bool(signs) and self._record.now - max(signs) > overdue + _OVERDUE
        if is_due and self._record.limits is None:
            shown |= {each.number for each in self._record.clock.tickets.all()}
        change = GhostsNoted(self._record.user_id, self._limits.sync_overdue_seconds, frozenset(shown))
        return Arrival(change, len(self._record.history) + 1, self._record.now)

    # Positions.

    def _positions(self) -> None:
        expected, shown = self._expected["positions"], self._shown["positions"]
        begun = len(self._found.doubts)
        for book in ("open", "unmatched"):
            due, found = expected.get(book, {}), shown.get(book, {})
            for ticket in sorted(due.keys() | found.keys(), key=int):
                self._position(f"positions/{book}/{ticket}", ticket, due.get(ticket), found.get(ticket))
        # A sum of something doubtful is doubtful.
        doubtful = len(self._found.doubts) > begun or self._doubt.of_money
        self._found.compare("positions", expected, shown, _TOTALS, doubtful=doubtful)
        of_percent = doubtful or self._doubt.of_balance
        self._found.compare("positions", expected, shown, ["total_unrealized_pnl_pct"], doubtful=of_percent)
        self._book(doubtful=doubtful or self._doubt.of_some_ticket)
        later = str(shown.get("last_updated_at", "")) > str(expected.get("last_updated_at", ""))
        capped = any(map(self._doubt.is_uncapped, self._record.log))
        lost = self._doubt.of_last_update if later else self._doubt.of_arrivals
        doubtful = self._doubt.timeless or capped or lost
        self._found.compare("positions", expected, shown, ["last_updated_at"], doubtful=doubtful)

    def _book(self, *, doubtful: bool) -> None:
        expected, shown = self._expected["status"], self._shown["status"]
        # Tickets that diverge may have no row on record any more.
        more = shown["divergences_detected"] > expected["divergences_detected"]
        doubtful = doubtful or (more and self._doubt.of_the_past)
        self._found.compare("status", expected, shown, _BOOK, doubtful=doubtful)

    def _position(self, path: str, ticket: str, expected: State | None, shown: State | None) -> None:
        doubtful = self._doubt.of_ticket(ticket) or self._doubt.of_lost_versions(ticket, expected, shown)
        if expected is None or shown is None:
            self._found.add(path, expected or ABSENT, shown or ABSENT, doubtful=doubtful)
            return
        certain = sorted((expected.keys() | shown.keys()) - _DOUBTED_APART)
        self._found.compare(path, expected, shown, certain, doubtful=doubtful)
        self._found.compare(path, expected, shown, _PRICE, doubtful=doubtful or self._doubt.of_price(ticket))
        unsure = self._doubt.of_syncs or self._doubt.of_the_past or self._doubt.of_lost_rows
        # It may have been marked by limits that have changed since.
        unsure = unsure or (self._record.limits is not None and "unconfirmed_since" not in expected)
        self._found.compare(path, expected, shown, ["unconfirmed_since"], doubtful=doubtful or unsure)
        capped = self._doubt.of_update(ticket, shown["last_updated_at"])
        self._found.compare(path, expected, shown, ["last_updated_at"], doubtful=doubtful or capped)
        self._found.compare(path, expected, shown, ["contract_size_assumed"],
                            doubtful=doubtful or self._doubt.of_money)  # fmt: skip
        currency = self._expected["guards"]["drawdown"].get("currency")
        unsure = self._doubt.of_rate(expected.get("symbol"), shown["pnl_currency"], currency)
        unsure = unsure or self._doubt.of_price(ticket)
        self._found.compare(path, expected, shown, _PROFIT, doubtful=doubtful or unsure)
        earlier = shown["entry_time"] < expected["entry_time"]
        self._found.compare(path, expected, shown, ["entry_time"],
                            doubtful=doubtful or (earlier and self._doubt.of_earlier_rows(ticket)))  # fmt: skip
        doubtful = doubtful or self._doubt.of_position_id(ticket, shown["position_id"])
        self._found.compare(path, expected, shown, ["position_id"], doubtful=doubtful)

    # Status.

    def _status(self) -> None:
        expected, shown = self._expected["status"], self._shown["status"]
        doubt = self._doubt
        later = str(shown.get("last_sync_at", "")) > str(expected.get("last_sync_at", ""))
        lost = doubt.of_lost_rows if later else self._lacks_syncs()
        self._found.compare(
            "status",
            expected,
            shown,
            ["last_sync_at", "last_sync_duration_ms"],
            doubtful=doubt.of_syncs or lost,
        )
        self._found.compare("status", {"error_message": self._due_message()}, shown, ["error_message"],
                            doubtful=doubt.of_syncs or doubt.of_lost_rows)  # fmt: skip
        self._found.compare("status", expected, shown, ["clock_offset_seconds"], doubtful=doubt.of_clock)
        # Rows that are gone were counted.
        missing = expected["total_syncs"] - shown["total_syncs"]
        doubtful = missing < 0 or missing <= doubt.changed_syncs or doubt.of_altered
        self._found.compare("status", expected, shown, ["total_syncs"], doubtful=doubtful)

    def _due_message(self) -> str:
        """The platform's last message, or else what is wrong with the positions that are shown, each judged apart."""
        said = error_message([arrival for arrival, _ in self._record.log])
        return said or warning(self._shown["positions"]) or ABSENT

    def _lacks_syncs(self) -> bool:
        """Whether the last sync that is shown can be an earlier one than that on record."""
        shown = self._shown["status"].get("last_sync_at")
        return self._doubt.of_arrivals or self._doubt.of_ignored_syncs(shown)

    def _source(self) -> None:
        """Silence is a matter of time: only what is far from its edge is judged."""
        times = self._doubt.last_sync()
        shown, now = self._shown["status"]["source"], self._record.now
        overdue = timedelta(seconds=self._limits.sync_overdue_seconds)
        if shown == "live" and all(now - each > overdue + _OVERDUE for each in times):
            doubtful = self._doubt.of_syncs or len(times) == 1 or self._doubt.of_time or self._doubt.of_limits
            doubtful = doubtful or self._doubt.of_the_past or self._record.equity_gone_until is not None
            doubtful = (
                doubtful
                or self._doubt.of_arrivals
                or self._doubt.of_life_before_the_record(overdue + _OVERDUE)
            )
            self._found.add("status/source", "silent", shown, doubtful=doubtful)
        elif shown == "silent" and times and all(now - each < overdue - _CLOCK_STEP for each in times):
            # The account may have fallen silent by limits that have changed since.
            doubtful = self._doubt.of_syncs or self._doubt.of_limits or self._record.limits is not None
            doubtful = doubtful or self._lacks_syncs() or self._doubt.of_life_by_equity(overdue - _CLOCK_STEP)
            self._found.add("status/source", "live", shown, doubtful=doubtful)

    def _events(self) -> None:
        caused = log_events(self._record.history, self._record.user_id)
        shown = self._shown["status"]["recent_events"]
        oldest = min((event["created_at"] for event in shown.values()), default="")
        for event_id, event in shown.items():
            path, doubtful = f"status/recent_events/{event_id}", self._doubt.of_event(event_id)
            if event["event_type"] == "drawdown_alert" or "notice" in event:
                continue  # what limits held at the time, and when housekeeping looked, is not on record
            if event_id not in caused:
                self._found.add(path, ABSENT, event, doubtful=doubtful)
                continue
            expected = wire(caused[event_id][1])
            self._found.compare(path, expected, event, _EVENT, doubtful=doubtful)
        for event_id, event in newest(caused, LISTED_EVENTS).items():
            due = len(shown) < LISTED_EVENTS or event["created_at"] > oldest
            if due and event_id not in shown:
                path = f"status/recent_events/{event_id}"
                doubtful = self._doubt.of_event(event_id) or self._doubt.of_listed_events
                self._found.add(path, event, ABSENT, doubtful=doubtful)

    # Guards.

    def _guards(self) -> None:
        begun = len(self._found.doubts)
        self._drawdown()
        self._alerts()
        # The overall status is as doubtful as drawdown and alerts are.
        doubtful = len(self._found.doubts) > begun or self._doubt.of_equity or self._doubt.of_limits
        expected, shown = self._expected["guards"], self._shown["guards"]
        self._found.compare("guards", expected, shown, _OVERALL, doubtful=doubtful)

    def _drawdown(self) -> None:
        path = "guards/drawdown"
        expected, shown = self._expected["guards"]["drawdown"], self._shown["guards"]["drawdown"]
        self._found.compare(path, expected, shown, _LEVELS, doubtful=self._doubt.of_limits)
        unsure = self._doubt.of_equity or self._doubt.of_folded_equity
        self._found.compare(path, expected, shown, _LATEST, doubtful=unsure)
        # Whether rows are older hangs on what came before the rows on record, and on what they said then.
        unsure = unsure or self._is_about_the_clock() or self._record.equity_was_corrected
        self._found.compare(path, expected, shown, _IN_DOUBT, doubtful=unsure)
        doubtful = unsure or self._doubt.of_limits
        peak, shown_peak = expected.get("peak_equity", ABSENT), shown.get("peak_equity", ABSENT)
        if not same(peak, shown_peak):
            # A row that is gone may have been the peak, or a cash flow. Then the peak that is shown is used.
            lost = ABSENT not in (peak, shown_peak) and (shown_peak > peak or self._doubt.of_flows)
            least = self._doubt.least_peak
            is_too_low = least is not None and (shown_peak is ABSENT or shown_peak < least)
            unsure = (doubtful and not is_too_low) or self._doubt.of_equity or self._doubt.of_limits
            self._found.add(f"{path}/peak_equity", peak, shown_peak, doubtful=unsure or lost)
            if lost:
                expected = self._measured_from(shown_peak, expected)
        doubtful = doubtful or self._doubt.of_clock or self._record.equity_gone_until is not None
        self._found.compare(path, expected, shown, _MEASURED, doubtful=doubtful)
        if ("liquidation_at" in shown) is not (expected["alert_type"] == "critical"):
            self._found.add(f"{path}/liquidation_at", expected.get("liquidation_at", ABSENT),
                            shown.get("liquidation_at", ABSENT), doubtful=doubtful)  # fmt: skip

    def _is_about_the_clock(self) -> bool:
        """Whether only one of both holds that rows are older."""
        doubts = {each["guards"]["drawdown"].get("doubt") for each in (self._expected, self._shown)}
        return len(doubts) > 1 and "older" in doubts

    def _measured_from(self, peak: float, expected: State) -> State:
        if expected["alert_type"] == "unknown":
            return expected
        equity = Fraction(Decimal(repr(expected["current_equity"])))
        pct = fall(Fraction(Decimal(repr(peak))), equity)
        reached = level(pct, equity, self._limits)
        critical = reached == "critical"
        is_known = "doubt" not in expected or critical
        measured = {**expected, "current_drawdown_pct": float(shown_pct(pct) or 0)}
        if not is_known:
            del measured["current_drawdown_pct"]
        return {
            **measured,
            "alert_type": reached if is_known else "unknown",
            "should_close_all": critical,
            "alert_threshold_pct": expected["critical_pct" if critical else "warning_pct"],
        }

    def _alerts(self) -> None:
        for channel in ("alerts", "normal_alerts"):
            expected = self._expected["guards"].get(channel, {})
            shown = self._shown["guards"].get(channel, {})
            for name in sorted(expected.keys() | shown.keys()):
                self._alert(f"guards/{channel}/{name}", expected.get(name), shown.get(name))

    def _alert(self, path: str, expected: State | None, shown: State | None) -> None:
        doubtful = self._doubt.of_alerts
        if shown is None:
            # By another window than that of now it may have been over.
            self._found.add(path, expected, ABSENT, doubtful=doubtful or self._record.limits is not None)
        elif expected is None:
            doubtful = doubtful or self._doubt.of_time or self._doubt.of_alert(shown["detected_at"])
            self._found.add(path, ABSENT, shown, doubtful=doubtful or not self._long_over(shown))
        else:
            self._found.compare(
                path, expected, shown, sorted(expected.keys() | shown.keys()), doubtful=doubtful
            )

    def _long_over(self, alert: State) -> bool:
        """Whether housekeeping should have ended it, or no row ever was the cause of it."""
        behind = max(0, self._shown["status"].get("clock_offset_seconds", 0))
        detected = datetime.fromisoformat(alert["detected_at"]) + timedelta(seconds=behind)
        window = timedelta(seconds=self._limits.alert_window_seconds)
        return not detected + window <= self._record.now < detected + window + _OVERDUE

    def _breaches(self) -> None:
        """Compare open breaches with the guards that are critical now: each of these has one, and no other has any."""
        breaches = self._shown["guards"]["breaches"].values()
        standing = Counter(_named(breach) for breach in breaches if "cleared_at" not in breach)
        due = self._critical()
        for name in sorted(due | standing.keys()):
            if standing[name] != (name in due):
                path = f"guards/breaches of {name}"
                # A breach is known by its row, so a row that reports another condition now has one breach for both.
                doubtful = name != "drawdown" and self._doubt.of_changed_guards
                self._found.add(path, f"{int(name in due)} open", f"{standing[name]} open", doubtful=doubtful)

    def _critical(self) -> set[str]:
        """Names of the guards that are critical now."""
        guards = self._shown["guards"]
        critical = (alert for alert in guards["alerts"].values() if alert["alert_type"] == "critical")
        names = {f"{values.fold(alert['symbol'])}:{alert['condition_type']}" for alert in critical}
        return names | ({"drawdown"} if guards["drawdown"]["alert_type"] == "critical" else set())

    def _guard_alerts(self) -> None:
        """Compare alerts with the guards that are critical now: each of these has an alert, and no other has one."""
        found = {alert.name: self._stage_of(alert) for alert in self._record.alerts}
        due = self._critical()
        for name in sorted(due | found.keys()):
            expected, is_right = (_OPEN, {_OPEN, _SETTLED}) if name in due else (ABSENT, {ABSENT})
            stage = found.get(name, ABSENT)
            if stage not in is_right:
                doubtful = name != "drawdown" and self._doubt.of_changed_guards
                self._found.add(f"alerts/open of {name}", expected, stage, doubtful=doubtful)

    def _stage_of(self, alert: GuardAlert) -> str:
        """The end of an alert; one that is acknowledged ends when no position that it speaks of is open."""
        if not alert.is_resolved:
            return _OPEN if alert.stands else "open, and its condition over"
        if not alert.is_acknowledged:
            return "resolved, and nobody acknowledged it"
        return "resolved, and its positions open" if self._has_positions_of(alert) else _SETTLED

    def _has_positions_of(self, alert: GuardAlert) -> bool:
        """Whether a position is open that an alert speaks of; the capture may find more by their instrument."""
        symbols = {values.fold(each.get("symbol")) for each in self._shown["positions"]["open"].values()}
        if alert.kind == "drawdown" or alert.symbol == "*":
            return bool(symbols)
        return values.fold(alert.symbol) in symbols


def _named(breach: State) -> str:
    """Name of the guard that raised a breach: the drawdown, or an alert by its key."""
    if breach["kind"] == "drawdown":
        return "drawdown"
    return f"{values.fold(breach['symbol'])}:{breach['condition_type']}"

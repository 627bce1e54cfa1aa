"""The simulated platform does what bots and visitors ask of it."""

from __future__ import annotations

from datetime import timedelta

from realtime.simulator import SimulatorOptions, demo_user_id
from realtime.simulator.platform import STEP_SECONDS, SimulatedPlatform
from realtime.simulator.rows import LogRow, PeakReset, Transaction
from tests.simulator.played import START

CALM = SimulatorOptions(users=1, divergences=0, closes=0, drawdowns=0, guard_triggers=0, failed_syncs=0)


class Run:
    """A platform that runs step by step."""

    def __init__(self, options: SimulatorOptions = CALM) -> None:
        self.platform = SimulatedPlatform(options)
        self.platform.opening(START)
        self.account = self.platform.accounts[0]
        self._second = 0.0

    def go_on(self, seconds: float) -> Transaction:
        """All rows of the next ``seconds``."""
        rows = Transaction()
        for _ in range(round(seconds / STEP_SECONDS)):
            self._second += STEP_SECONDS
            for each in self.platform.step(START + timedelta(seconds=self._second)):
                rows.log += each.log
                rows.equity += each.equity
                rows.peaks += each.peaks
        return rows

    def close(self, *tickets: int) -> None:
        for ticket in tickets:
            self.platform.orders.close(self.account.user_id, ticket)


def spreads(rows: Transaction) -> list[LogRow]:
    return [row for row in rows.log if row.event_type == "guard_trigger"]


def test_a_position_is_closed_once_however_often_a_bot_orders_it() -> None:
    run = Run()
    ticket = run.account.book[2].ticket
    run.close(ticket, ticket, 4711)
    closed = [row for row in run.go_on(2).log if row.event_type == "close"]
    assert [(row.mt5_position_id, row.close_reason) for row in closed] == [(ticket, "bot")]
    assert ticket not in [position.ticket for position in run.account.book]


def test_an_order_of_another_account_closes_nothing() -> None:
    run = Run()
    run.platform.orders.close(demo_user_id(1), run.account.book[0].ticket)
    assert "close" not in [row.event_type for row in run.go_on(2).log]


def test_a_wide_spread_is_critical_and_ends_soon_after_nothing_is_held_in_its_symbol() -> None:
    run = Run()
    run.platform.orders.widen_spread()
    (wide,) = spreads(run.go_on(2))
    assert wide.entry_price is not None
    assert wide.current_price is not None
    assert wide.current_price / wide.entry_price > 1.011
    held = [each for each in run.account.book if each.instrument.symbol == wide.symbol]
    assert held
    run.close(*(each.ticket for each in held))
    (calm,) = spreads(run.go_on(5))
    assert calm.symbol == wide.symbol
    # Nothing is opened there meanwhile, and then the account has as many positions as before.
    run.go_on(8)
    assert len(run.account.book) == CALM.positions


def test_a_wide_spread_that_nobody_acts_on_ends_by_itself() -> None:
    run = Run()
    run.platform.orders.widen_spread()
    assert len(spreads(run.go_on(24))) == 1
    assert len(spreads(run.go_on(3))) == 2 - 1
    assert len(run.account.book) == CALM.positions


def test_an_account_that_was_closed_as_a_whole_begins_anew_with_its_money_and_its_peak() -> None:
    run = Run()
    run.go_on(2)
    run.account.balance -= 5_000
    run.close(*(each.ticket for each in run.account.book))
    assert run.go_on(5).peaks == []
    rows = run.go_on(15)
    assert [type(each) for each in rows.peaks] == [PeakReset]
    (deposit,) = [row.cash_flow for row in rows.equity if row.cash_flow]
    assert 4_000 < deposit < 6_000
    assert len(run.account.book) == CALM.positions
    assert run.account.equity() > 0.99 * run.account.peak


def test_the_first_account_has_a_wide_spread_every_minute() -> None:
    run = Run(
        SimulatorOptions(users=1, divergences=0, closes=0, drawdowns=0, failed_syncs=0, guard_triggers=1e-6)
    )
    reasons = [row.divergence_reason for row in spreads(run.go_on(130))]
    assert reasons.count("bid-ask spread is 1.60 %") == 3

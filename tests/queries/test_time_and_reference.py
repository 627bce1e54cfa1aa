"""What time, limits, instruments and rates change is a commit of the accounts concerned alone."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from queries.capture import housekeep
from tests.queries.ledger import Ledger


async def gap(ledger: Ledger, user: UUID, current_price: Any = 120, **columns: Any) -> UUID:
    """A guard trigger that found a price gap from 100."""
    prices = {"entry_price": 100, "current_price": current_price}
    return await ledger.log(
        user, event_type="guard_trigger", divergence_reason="gap", **{**prices, **columns}
    )


async def limit(ledger: Ledger, user: UUID, **limits: Any) -> None:
    names, values = ", ".join(limits), ", ".join(map(str, limits.values()))
    changes = ", ".join(f"{name} = excluded.{name}" for name in limits)
    await ledger.connection.execute(
        f"INSERT INTO guard_limits (user_id, {names}) VALUES ('{user}', {values})"
        f" ON CONFLICT (user_id) DO UPDATE SET {changes}"
    )


async def moved(ledger: Ledger, statement: str) -> set[UUID]:
    """The accounts whose revision ``statement`` moves."""
    before = await ledger.revisions()
    await ledger.connection.execute(statement)
    after = await ledger.revisions()
    return {user for user in after if after[user] != before.get(user)}


async def test_the_end_of_an_alert_is_a_commit_and_clears_its_breach(ledger: Ledger, user: UUID) -> None:
    await limit(ledger, user, alert_window_seconds=90)
    await gap(ledger, user, created_at=ledger.at(0))
    before = await ledger.revision(user)
    assert (await housekeep(ledger.connection)).alerts_ended == 0
    assert await ledger.revision(user) == before
    # Its time is a minute ago: with a shorter window it is over, but that is for the clock to say.
    await limit(ledger, user, alert_window_seconds=1)
    before, guards = await ledger.revision(user), (await ledger.state(user))["guards"]
    assert guards["any_positions_should_close"] is True
    assert (await housekeep(ledger.connection)).alerts_ended == 1
    assert await ledger.revision(user) > before
    guards = (await ledger.state(user))["guards"]
    assert (guards["alerts"], guards["any_positions_should_close"]) == ({}, False)
    assert all("cleared_at" in breach for breach in guards["breaches"].values())
    after = await ledger.revision(user)
    assert (await housekeep(ledger.connection)).alerts_ended == 0
    assert await ledger.revision(user) == after


async def test_an_alert_that_was_over_when_it_arrived_is_an_event_only(ledger: Ledger, user: UUID) -> None:
    row = await gap(ledger, user, created_at="2001-01-01 00:00:00+00")
    state = await ledger.state(user)
    assert state["guards"]["alerts"] == {}
    assert list(state["status"]["recent_events"]) == [str(row)]


async def test_a_platform_that_falls_silent_is_said_to_be_by_a_commit(ledger: Ledger, user: UUID) -> None:
    await ledger.log(user)
    assert (await ledger.state(user))["status"]["source"] == "live"
    await ledger.connection.execute(
        "UPDATE guardwire.accounts"
        " SET last_sync_arrived_at = now() - interval '61 seconds', sync_due_at = now()"
    )
    before = await ledger.revision(user)
    assert (await housekeep(ledger.connection)).fell_silent == 1
    assert await ledger.revision(user) > before
    assert (await ledger.state(user))["status"]["source"] == "silent"
    assert (await housekeep(ledger.connection)).fell_silent == 0
    await ledger.log(user, 1)
    assert (await ledger.state(user))["status"]["source"] == "live"


async def test_a_platform_that_goes_on_is_looked_at_later_without_a_commit(
    ledger: Ledger, user: UUID
) -> None:
    await ledger.log(user)
    before = await ledger.revision(user)
    for _ in range(3):
        assert (await housekeep(ledger.connection)).fell_silent == 0
    assert await ledger.revision(user) == before


@pytest.mark.parametrize(
    ("equity", "level", "pct"), [(9500, "normal", 5.0), (8500, "warning", 15.0), (8000, "critical", 20.0)]
)
async def test_a_drawdown_is_measured_from_the_peak(
    ledger: Ledger, user: UUID, equity: int, level: str, pct: float
) -> None:
    await ledger.equity(user, 10_000)
    await ledger.equity(user, equity, 1)
    drawdown = (await ledger.state(user))["guards"]["drawdown"]
    assert (drawdown["alert_type"], drawdown["current_drawdown_pct"]) == (level, pct)
    assert drawdown["should_close_all"] is (level == "critical")


async def test_a_countdown_is_not_started_again_by_later_equity(ledger: Ledger, user: UUID) -> None:
    await ledger.equity(user, 10_000)
    await ledger.equity(user, 8000, 1)
    first = (await ledger.state(user))["guards"]["drawdown"]["liquidation_at"]
    await ledger.equity(user, 7000, 2)
    assert (await ledger.state(user))["guards"]["drawdown"]["liquidation_at"] == first
    await ledger.equity(user, 9900, 3)
    assert "liquidation_at" not in (await ledger.state(user))["guards"]["drawdown"]


async def test_changed_limits_judge_what_stands_anew(ledger: Ledger, user: UUID) -> None:
    await ledger.equity(user, 10_000)
    await ledger.equity(user, 9000, 1)
    await gap(ledger, user, 107)
    guards = (await ledger.state(user))["guards"]
    assert (guards["drawdown"]["alert_type"], guards["any_positions_should_close"]) == ("normal", False)
    await limit(ledger, user, drawdown_warning_pct=5, drawdown_critical_pct=10, gap_critical_pct=6)
    guards = (await ledger.state(user))["guards"]
    assert guards["drawdown"]["alert_type"] == "critical"
    assert {alert["alert_type"] for alert in guards["alerts"].values()} == {"critical"}
    assert len(guards["breaches"]) == 2
    await ledger.connection.execute("DELETE FROM guard_limits")
    guards = (await ledger.state(user))["guards"]
    assert (guards["drawdown"]["alert_type"], guards["any_positions_should_close"]) == ("normal", False)
    assert all("cleared_at" in breach for breach in guards["breaches"].values())


async def test_limits_that_are_truncated_are_the_defaults_again_at_another_revision(
    ledger: Ledger, user: UUID
) -> None:
    await ledger.equity(user, 10_000)
    await ledger.equity(user, 9000, 1)
    await limit(ledger, user, drawdown_warning_pct=5, drawdown_critical_pct=10)
    assert await moved(ledger, "TRUNCATE guard_limits") == {user}
    drawdown = (await ledger.state(user))["guards"]["drawdown"]
    assert (drawdown["alert_type"], drawdown["critical_pct"]) == ("normal", 20.0)


async def test_limits_move_the_account_that_they_were_and_are_of(ledger: Ledger, user: UUID) -> None:
    other, bystander = uuid4(), uuid4()
    for each in (user, other, bystander):
        await ledger.equity(each, 10_000)
    await limit(ledger, user, minimum_equity=20_000)
    changed = await moved(ledger, f"UPDATE guard_limits SET user_id = '{other}'")
    assert changed == {user, other}
    assert (await ledger.state(user))["guards"]["drawdown"]["alert_type"] == "normal"
    assert (await ledger.state(other))["guards"]["drawdown"]["alert_type"] == "critical"


async def test_an_instrument_moves_the_accounts_that_hold_it_open(ledger: Ledger, user: UUID) -> None:
    holder_of_another, closed = uuid4(), uuid4()
    await ledger.log(user, symbol="xauusd")
    await ledger.log(holder_of_another, symbol="EURUSD")
    await ledger.log(closed)
    await ledger.close(closed, 1)
    assert await moved(ledger, "UPDATE instruments SET contract_size = 10 WHERE symbol = 'XAUUSD'") == {user}
    assert (await ledger.book(user))["1"]["unrealized_pnl"] == 5.25
    assert await moved(ledger, "DELETE FROM instruments WHERE symbol = 'XAUUSD'") == {user}
    assert (await ledger.book(user))["1"]["contract_size_assumed"] is True
    assert await moved(ledger, "TRUNCATE instruments") == {holder_of_another}
    assert (await ledger.book(holder_of_another))["1"]["contract_size_assumed"] is True


async def test_a_rate_moves_the_accounts_that_are_converted_with_it(ledger: Ledger, user: UUID) -> None:
    in_dollars, without_equity = uuid4(), uuid4()
    await ledger.equity(user, 10_000, currency="GBP")
    await ledger.equity(in_dollars, 10_000)
    for each in (user, in_dollars, without_equity):
        await ledger.log(each)
    assert (await ledger.book(user))["1"]["pnl_currency"] == "USD"
    rate = "INSERT INTO fx_rates (base, quote, rate, created_at) VALUES ('GBP', 'USD', {}, '{}')"
    assert await moved(ledger, rate.format("1.25", ledger.at(5))) == {user}
    position = (await ledger.book(user))["1"]
    assert (position["unrealized_pnl"], position["pnl_currency"]) == (42.0, "GBP")
    assert await moved(ledger, rate.format("9", ledger.at(4))) == set()
    assert await moved(ledger, rate.format("'NaN'", ledger.at(6))) == set()
    assert await moved(ledger, "INSERT INTO fx_rates (base, quote, rate) VALUES ('EUR', 'CHF', 1)") == set()
    assert (await ledger.book(user))["1"]["unrealized_pnl"] == 42.0


async def test_the_same_commit_may_bring_a_position_and_what_its_symbol_is(
    ledger: Ledger, user: UUID
) -> None:
    async with ledger.connection.transaction():
        await ledger.log(user, symbol="NEWUSD")
        await ledger.connection.execute(
            "INSERT INTO instruments (symbol, contract_size, quote_currency) VALUES ('NEWUSD', 1000, 'USD')"
        )
    position = (await ledger.book(user))["1"]
    assert position["unrealized_pnl"] == 525
    assert "contract_size_assumed" not in position

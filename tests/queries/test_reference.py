"""Limits, instruments and rates are copies too: they count once they are applied, for the accounts concerned."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import pytest

from tests.audit.auditing import differences
from tests.inbox import apply_batch
from tests.queries.conftest import Connect
from tests.queries.database_writer import DatabaseWriter


async def moved(writer: DatabaseWriter, statement: str) -> set[UUID]:
    """The accounts whose revision ``statement`` moves."""
    before = await writer.revisions()
    await writer.execute(statement)
    after = await writer.revisions()
    return {user for user in after if after[user] != before.get(user)}


# ---------------------------------------------------------------- limits


async def test_limits_show_once_they_are_applied(writer: DatabaseWriter) -> None:
    await writer.equity(10_000)
    await writer.equity(9_000, 1)
    writer.applies = False
    await writer.set_limits(drawdown_warning_pct=5, drawdown_critical_pct=10)
    before = await writer.drawdown()
    assert (before["alert_type"], before["critical_pct"]) == ("normal", 20.0)
    await writer.apply()
    after = await writer.drawdown()
    assert (after["alert_type"], after["critical_pct"]) == ("critical", 10.0)


async def test_limits_count_for_the_rows_that_arrived_after_them(writer: DatabaseWriter) -> None:
    await writer.equity(10_000)
    writer.applies = False
    await writer.equity(9_000, 1)
    await writer.set_limits(drawdown_warning_pct=5, drawdown_critical_pct=10)
    await writer.set_limits(drawdown_warning_pct=15, drawdown_critical_pct=20)
    await writer.equity(8_900, 2)
    await writer.apply()
    (breach,) = await writer.rows("breaches")
    assert breach["observed_pct"] == 10
    assert breach["cleared_at"] is not None
    assert (await writer.account())["drawdown_level"] == "normal"


async def test_changed_limits_judge_what_stands_anew(writer: DatabaseWriter) -> None:
    await writer.equity(10_000)
    await writer.equity(9_000, 1)
    await writer.guard("gap", 100, 107)
    guards = (await writer.state())["guards"]
    assert (guards["drawdown"]["alert_type"], guards["any_positions_should_close"]) == ("normal", False)
    await writer.set_limits(drawdown_warning_pct=5, drawdown_critical_pct=10, gap_critical_pct=6)
    guards = (await writer.state())["guards"]
    assert guards["drawdown"]["alert_type"] == "critical"
    assert {alert["alert_type"] for alert in guards["alerts"].values()} == {"critical"}
    assert len(guards["breaches"]) == 2
    await writer.execute("DELETE FROM guard_limits")
    guards = (await writer.state())["guards"]
    assert (guards["drawdown"]["alert_type"], guards["any_positions_should_close"]) == ("normal", False)
    assert all("cleared_at" in breach for breach in guards["breaches"].values())


async def test_limits_of_an_account_without_equity_raise_its_revision_and_nothing_else(
    writer: DatabaseWriter,
) -> None:
    await writer.set_limits(drawdown_warning_pct=1)
    account = await writer.account()
    assert account["revision"] > 0
    assert account["drawdown_level"] is None


async def test_limits_that_are_truncated_are_the_defaults_again_at_another_revision(
    writer: DatabaseWriter,
) -> None:
    await writer.equity(10_000)
    await writer.equity(9_000, 1)
    await writer.set_limits(drawdown_warning_pct=5, drawdown_critical_pct=10)
    assert await moved(writer, "TRUNCATE guard_limits") == {writer.user_id}
    drawdown = await writer.drawdown()
    assert (drawdown["alert_type"], drawdown["critical_pct"]) == ("normal", 20.0)


@pytest.mark.parametrize("batch_rows", [1, 1000])
async def test_limits_that_are_truncated_before_they_were_applied_never_count(
    writer: DatabaseWriter, batch_rows: int
) -> None:
    """The TRUNCATE has no account, so it is not in one queue with the limits."""
    other = writer.of()
    await writer.equity(10_000)
    await writer.equity(9_000, 1)
    writer.applies = False
    for _ in range(3):
        await writer.sync()
    await writer.set_limits(drawdown_warning_pct=5, drawdown_critical_pct=10)
    await writer.execute("TRUNCATE guard_limits")
    other.applies = False
    await other.set_limits(minimum_equity=7)
    await writer.apply(batch_rows=batch_rows)
    assert (await writer.drawdown())["critical_pct"] == 20.0
    assert (await writer.account())["drawdown_level"] == "normal"
    assert (await other.drawdown())["minimum_equity"] == 7


_LIMITS_APPLIED = """
SELECT l.user_id, l.minimum_equity FROM guardwire.limits AS l WHERE l.user_id <> guardwire.no_account() ORDER BY 1
"""
_LIMITS_WRITTEN = "SELECT user_id, minimum_equity FROM public.guard_limits ORDER BY 1"
_LIMIT_CHANGES = (
    """INSERT INTO guard_limits AS l (user_id, minimum_equity) VALUES ($1, $3)
       ON CONFLICT (user_id) DO UPDATE SET minimum_equity = $3 WHERE $2::uuid IS NOT NULL""",
    "UPDATE guard_limits SET minimum_equity = $3 WHERE user_id = $1 AND $2::uuid IS NOT NULL",
    "DELETE FROM guard_limits WHERE user_id = $1 AND $2::uuid IS NOT NULL AND $3::numeric IS NOT NULL",
    """UPDATE guard_limits SET user_id = $2, minimum_equity = $3
       WHERE user_id = $1 AND NOT EXISTS (SELECT FROM guard_limits WHERE user_id = $2)""",
)


@pytest.mark.parametrize("seed", range(10))
async def test_changes_of_limits_count_in_their_order_however_they_wait(
    writer: DatabaseWriter, seed: int
) -> None:
    """A TRUNCATE waits with the rates, a change with its account, and a row that is moved with its new account."""
    chance = Random(seed)
    accounts = [writer.of() for _ in range(3)]
    for account in accounts:
        await account.equity(10_000)
        account.applies = False
    for step in range(60):
        for _ in range(chance.choice([0, 0, 5])):
            await chance.choice(accounts).sync()
        for _ in range(chance.choice([0, 0, 5])):
            await accounts[0].rate("EUR", "USD", 1)
        if chance.random() < 0.1:
            await accounts[0].execute("TRUNCATE guard_limits")
        else:
            one, other = chance.sample([account.user_id for account in accounts], 2)
            await accounts[0].execute(chance.choice(_LIMIT_CHANGES), one, other, step)
        if chance.random() < 0.5:
            await apply_batch(writer.connection, batch_rows=chance.choice([1, 2, 5]))
        if chance.random() < 0.1:
            await writer.connection.fetch("SELECT guardwire.apply_singly(term, 3) FROM guardwire.applier")
        if chance.random() < 0.1:
            await writer.apply(batch_rows=chance.choice([1, 2, 5, 1000]))
            assert await limits_applied(writer) == await writer.connection.fetch(_LIMITS_WRITTEN), step
    await writer.apply()
    assert await limits_applied(writer) == await writer.connection.fetch(_LIMITS_WRITTEN)
    for account in accounts:
        assert await differences(writer.connection, account.user_id) == []


async def limits_applied(writer: DatabaseWriter) -> Any:
    """Account and least equity of all limits that hold."""
    return await writer.connection.fetch(_LIMITS_APPLIED)


async def test_limits_move_the_account_that_they_were_and_are_of(writer: DatabaseWriter) -> None:
    other, bystander = writer.of(), writer.of()
    for each in (writer, other, bystander):
        await each.equity(10_000)
    await writer.set_limits(minimum_equity=20_000)
    changed = await moved(writer, f"UPDATE guard_limits SET user_id = '{other.user_id}'")
    assert changed == {writer.user_id, other.user_id}
    assert (await writer.drawdown())["alert_type"] == "normal"
    assert (await other.drawdown())["alert_type"] == "critical"


# ---------------------------------------------------------------- instruments


async def test_an_instrument_moves_the_accounts_that_hold_it_open(writer: DatabaseWriter) -> None:
    holder_of_another, closed = writer.of(), writer.of()
    await writer.sync(symbol="xauusd")
    await holder_of_another.sync(symbol="EURUSD")
    await closed.sync()
    await closed.close(1)
    me, another = {writer.user_id}, {holder_of_another.user_id}
    assert await moved(writer, "UPDATE instruments SET contract_size = 10 WHERE symbol = 'XAUUSD'") == me
    assert (await writer.book())["1"]["unrealized_pnl"] == 5.25
    assert await moved(writer, "DELETE FROM instruments WHERE symbol = 'XAUUSD'") == me
    assert (await writer.book())["1"]["contract_size_assumed"] is True
    assert await moved(writer, "TRUNCATE instruments") == another
    assert (await holder_of_another.book())["1"]["contract_size_assumed"] is True


async def test_a_price_counts_by_the_instrument_as_it_was_applied(writer: DatabaseWriter) -> None:
    await writer.sync()
    writer.applies = False
    await writer.execute("UPDATE instruments SET contract_size = 10 WHERE symbol = 'XAUUSD'")
    assert (await writer.position())["pnl"] == Decimal("52.50")
    await writer.sync(1, current_price="1951.50")
    await writer.apply()
    position = await writer.position()
    assert (position["contract_size"], position["pnl"]) == (10, Decimal(1))


async def test_an_instrument_that_is_renamed_is_another_one(writer: DatabaseWriter) -> None:
    await writer.sync(symbol="BULLION")
    await writer.execute("UPDATE instruments SET symbol = 'BULLION' WHERE symbol = 'XAUUSD'")
    assert (await writer.position())["contract_size"] == 100
    await writer.execute("UPDATE instruments SET symbol = 'XAUUSD' WHERE symbol = 'BULLION'")
    assert (await writer.position())["contract_size_assumed"]


async def test_the_same_transaction_may_bring_a_position_and_what_its_symbol_is(
    writer: DatabaseWriter,
) -> None:
    async with writer.connection.transaction():
        await writer.sync(symbol="NEWUSD")
        await writer.execute(
            "INSERT INTO instruments (symbol, contract_size, quote_currency) VALUES ('NEWUSD', 1000, 'USD')"
        )
    position = (await writer.book())["1"]
    assert position["unrealized_pnl"] == 525
    assert "contract_size_assumed" not in position


async def test_a_position_that_opens_in_a_transaction_that_commits_later_has_the_instrument_of_now(
    writer: DatabaseWriter, connect: Connect
) -> None:
    late = DatabaseWriter(await connect(), writer.user_id)
    async with late.connection.transaction(isolation="repeatable_read"):
        await late.sync()
        await writer.execute("UPDATE instruments SET contract_size = 1 WHERE symbol = 'XAUUSD'")
    assert (await writer.position())["contract_size"] == 1


# ---------------------------------------------------------------- rates


async def test_a_rate_moves_the_accounts_that_are_converted_with_it(writer: DatabaseWriter) -> None:
    in_dollars, without_equity = writer.of(), writer.of()
    await writer.equity(10_000, currency="GBP")
    await in_dollars.equity(10_000)
    for each in (writer, in_dollars, without_equity):
        await each.sync()
    assert (await writer.book())["1"]["pnl_currency"] == "USD"
    rate = "INSERT INTO fx_rates (base, quote, rate, created_at) VALUES ('gbp', 'usd', {}, '{}')"
    assert await moved(writer, rate.format("1.25", writer.at(5))) == {writer.user_id}
    position = (await writer.book())["1"]
    assert (position["unrealized_pnl"], position["pnl_currency"]) == (42.0, "GBP")
    assert await moved(writer, rate.format("9", writer.at(4))) == set()
    assert await moved(writer, rate.format("'NaN'", writer.at(6))) == set()
    assert await moved(writer, "INSERT INTO fx_rates (base, quote, rate) VALUES ('EUR', 'CHF', 1)") == set()
    assert (await writer.book())["1"]["unrealized_pnl"] == 42.0


async def test_an_older_or_unusable_rate_is_not_current(writer: DatabaseWriter) -> None:
    await writer.rate("EUR", "USD", "1.1", 5)
    await writer.rate("EUR", "USD", "1.2", 4)
    for rate in ("NaN", "0", "-1", "Infinity", None):
        await writer.rate("EUR", "USD", rate, 9)
    assert await writer.value("SELECT rate FROM guardwire.fx_current") == Decimal("1.1")
    assert await writer.value("SELECT count(*) FROM guardwire.ignored_rows WHERE source = 'fx'") == 5

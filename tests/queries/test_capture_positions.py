"""What a row about a position makes of the book."""

from __future__ import annotations

from decimal import Decimal

from tests.queries.platform import OTHER, Platform, at


async def test_a_sync_opens_a_position(platform: Platform) -> None:
    row_id = await platform.sync(created_at=at(1), updated_at=at(1.25))
    position = await platform.position()
    assert position["is_open"]
    assert position["position_id"] == row_id
    assert position["matched"] == 1
    assert position["entry_time"] == position["state_at"] == at(1)
    assert position["updated_at"] == at(1.25)
    account = await platform.account()
    assert (account["total_syncs"], account["source"], account["last_sync_at"]) == (1, "live", at(1))
    assert account["last_sync_duration_ms"] == 250
    assert account["last_position_at"] == at(1.25)
    assert await platform.events() == ["position_matched"]


async def test_profit_is_exact_and_its_percentage_has_two_decimals(platform: Platform) -> None:
    await platform.sync()
    position = await platform.position()
    assert position["pnl"] == Decimal("52.50")
    assert position["pnl_pct"] == Decimal("0.27")
    assert (position["quote_currency"], position["contract_size"]) == ("USD", 100)


async def test_a_sell_earns_when_the_price_falls(platform: Platform) -> None:
    await platform.sync(
        direction="SELL", symbol="eurusd", volume=1, entry_price="1.1", current_price="1.0999"
    )
    assert (await platform.position())["pnl"] == Decimal(10)


async def test_an_unknown_symbol_counts_in_units_of_the_accounts_currency(platform: Platform) -> None:
    await platform.equity(1000, currency="chf")
    await platform.sync(symbol="ACME", volume=2, entry_price=10, current_price=11)
    position = await platform.position()
    assert position["contract_size_assumed"]
    assert position["quote_currency"] == "CHF"
    assert position["pnl"] == 2


async def test_an_unknown_symbol_follows_the_accounts_currency(platform: Platform) -> None:
    await platform.sync(symbol="ACME")
    assert (await platform.position())["quote_currency"] == "USD"
    await platform.equity(1000, currency="GBP")
    assert (await platform.position())["quote_currency"] == "GBP"


async def test_profit_is_unknown_without_direction_and_zero_without_a_current_price(
    platform: Platform,
) -> None:
    await platform.sync(1, direction="sideways")
    await platform.sync(2, current_price=None)
    assert (await platform.position(1))["pnl"] is None
    assert (await platform.position(1))["pnl_pct"] is None
    assert (await platform.position(2))["pnl"] == 0
    assert (await platform.position(2))["current_price"] is None


async def test_a_partial_close_is_an_open_row_with_less_volume(platform: Platform) -> None:
    await platform.sync(created_at=at(1), volume="0.3")
    await platform.sync(created_at=at(2), volume="0.1")
    position = await platform.position()
    assert position["is_open"]
    assert position["volume"] == Decimal("0.1")
    assert position["entry_time"] == at(1)
    assert await platform.events() == ["position_matched", "position_synced"]


async def test_a_close_closes_whenever_it_arrives(platform: Platform) -> None:
    await platform.sync(created_at=at(10))
    await platform.close(created_at=at(5), updated_at=at(6))
    position = await platform.position()
    assert not position["is_open"]
    assert position["closed_at"] == at(5)
    assert position["close_reason"] == "tp"
    assert position["closed_price"] == 1960
    assert position["updated_at"] == at(6)


async def test_only_an_open_row_later_than_every_close_reopens(platform: Platform) -> None:
    await platform.sync(created_at=at(1))
    await platform.close(created_at=at(5))
    await platform.sync(created_at=at(5))
    assert not (await platform.position())["is_open"]
    await platform.sync(created_at=at(6), volume="0.2")
    position = await platform.position()
    assert position["is_open"]
    assert position["volume"] == Decimal("0.2")
    assert position["entry_time"] == at(1)
    assert position["close_reason"] is None
    assert position["closed_at"] is None
    assert position["closed_price"] is None
    assert await platform.events() == ["position_matched", "position_closed", "position_matched"]


async def test_an_older_row_changes_nothing_but_the_entry_time(platform: Platform) -> None:
    await platform.sync(created_at=at(5), volume="0.1")
    await platform.sync(created_at=at(3), volume="0.9", matched=2)
    position = await platform.position()
    assert position["volume"] == Decimal("0.1")
    assert position["matched"] == 1
    assert position["entry_time"] == at(3)
    assert await platform.events() == ["position_matched"]
    assert (await platform.account())["total_syncs"] == 2


async def test_of_two_rows_of_one_time_the_later_arrival_is_the_state(platform: Platform) -> None:
    await platform.sync(volume="0.1")
    await platform.sync(volume="0.2")
    assert (await platform.position())["volume"] == Decimal("0.2")


async def test_a_close_of_a_ticket_never_seen_is_remembered(platform: Platform) -> None:
    row_id = await platform.close(created_at=at(5))
    await platform.sync(created_at=at(4))
    position = await platform.position()
    assert not position["is_open"]
    assert position["position_id"] == row_id
    assert position["entry_time"] == at(4)
    assert await platform.events() == ["position_closed"]


async def test_a_divergence_clears_when_a_matched_row_follows(platform: Platform) -> None:
    await platform.sync(created_at=at(1))
    await platform.sync(created_at=at(2), event_type="divergence", matched=None, divergence_reason="volume")
    assert (await platform.position())["matched"] == 2
    await platform.sync(created_at=at(3))
    assert (await platform.position())["matched"] == 1
    assert await platform.events() == ["position_matched", "divergence_detected", "position_matched"]


async def test_a_sync_after_a_divergence_event_of_the_same_words_is_matched_by_its_own_kind(
    platform: Platform,
) -> None:
    """The rows are alike in every column but the event type, which gives `matched` its meaning."""
    await platform.sync(created_at=at(1))
    await platform.sync(created_at=at(2), event_type="warning", matched=None)
    await platform.sync(created_at=at(3), matched=None)
    assert (await platform.position())["matched"] == 0


async def test_failed_rows_say_nothing_of_the_position(platform: Platform) -> None:
    await platform.sync(created_at=at(1))
    await platform.sync(created_at=at(2), status=" FAILED ", volume="5", error_message="no connection")
    assert (await platform.position())["volume"] == Decimal("0.1")
    account = await platform.account()
    assert account["error_message"] == "no connection"
    assert account["last_sync_at"] == at(1)
    await platform.sync(created_at=at(3))
    assert (await platform.account())["error_message"] is None


async def test_a_row_that_is_closed_in_place_closes_and_does_not_reopen_in_place(platform: Platform) -> None:
    row_id = await platform.sync(created_at=at(1))
    await platform.update(row_id, close_reason="manual", closed_price="1958")
    assert not (await platform.position())["is_open"]
    await platform.update(row_id, close_reason=None)
    assert not (await platform.position())["is_open"]
    assert (await platform.account())["total_syncs"] == 1


async def test_an_update_in_place_is_a_new_arrival_of_the_row(platform: Platform) -> None:
    row_id = await platform.sync(volume="0.1")
    await platform.sync(volume="0.2")
    await platform.update(row_id, volume="0.3")
    assert (await platform.position())["volume"] == Decimal("0.3")


async def test_a_row_that_moves_to_another_ticket_or_user_is_the_first_of_both(platform: Platform) -> None:
    row_id = await platform.sync(7)
    await platform.update(row_id, mt5_position_id=8)
    await platform.update(row_id, user_id=OTHER)
    seven, eight = await platform.position(7), await platform.position(8)
    others = await platform.position(8, OTHER)
    assert seven["position_id"] == row_id
    assert len({seven["position_id"], eight["position_id"], others["position_id"]}) == 3
    assert await platform.notes() == []


async def test_rows_of_other_event_types_are_recorded_and_change_nothing(platform: Platform) -> None:
    await platform.sync(event_type="heartbeat")
    assert await platform.position() == {}
    assert len(await platform.rows("arrivals")) == 1


async def test_what_a_lot_is_may_change_while_a_position_is_open(platform: Platform) -> None:
    await platform.sync()
    before = await platform.revision()
    await platform.connection.execute("UPDATE instruments SET contract_size = 10 WHERE symbol = 'XAUUSD'")
    assert (await platform.position())["pnl"] == Decimal("5.25")
    assert await platform.revision() > before
    await platform.sync(created_at=at(1), current_price="1951.50")
    assert (await platform.position())["pnl"] == Decimal(1)
    await platform.connection.execute("DELETE FROM instruments WHERE symbol = 'XAUUSD'")
    assert (await platform.position())["contract_size_assumed"]


async def test_a_rate_moves_the_accounts_whose_book_it_converts_and_no_others(platform: Platform) -> None:
    await platform.equity(1000, currency="EUR")
    await platform.sync(symbol="USDJPY")
    before = await platform.revision()
    await platform.insert("fx_rates", base="GBP", quote="USD", rate="1.3")
    assert await platform.revision() == before
    await platform.insert("fx_rates", base="eur", quote="jpy", rate="160")
    assert await platform.revision() > before
    current = await platform.connection.fetch("SELECT base, quote, rate FROM guardwire.fx_current ORDER BY 1")
    assert [tuple(row) for row in current] == [("EUR", "JPY", 160), ("GBP", "USD", Decimal("1.3"))]


async def test_an_older_or_unusable_rate_is_not_current(platform: Platform) -> None:
    await platform.insert("fx_rates", base="EUR", quote="USD", rate="1.1", created_at=at(5))
    await platform.insert("fx_rates", base="EUR", quote="USD", rate="1.2", created_at=at(4))
    for rate in ("NaN", "0", "-1", "Infinity", None):
        await platform.insert("fx_rates", base="EUR", quote="USD", rate=rate, created_at=at(9))
    assert await platform.connection.fetchval("SELECT rate FROM guardwire.fx_current") == Decimal("1.1")
    assert (
        await platform.connection.fetchval("SELECT count(*) FROM guardwire.ignored_rows WHERE source = 'fx'")
        == 5
    )

"""Rows of the log open, change and close positions; these tests say which of many rows counts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from tests.queries.database_writer import DatabaseWriter


async def prices(writer: DatabaseWriter) -> dict[str, float]:
    return {ticket: position["current_price"] for ticket, position in (await writer.book()).items()}


async def test_a_sync_opens_a_position(writer: DatabaseWriter) -> None:
    row_id = await writer.sync(1, updated_at=writer.at(1.25))
    position = await writer.position()
    assert position["is_open"]
    assert position["position_id"] == row_id
    assert position["matched"] == 1
    assert position["entry_time"] == position["state_at"] == writer.at(1)
    assert position["updated_at"] == writer.at(1.25)
    account = await writer.account()
    assert (account["total_syncs"], account["source"], account["last_sync_at"]) == (1, "live", writer.at(1))
    assert account["last_position_at"] == writer.at(1.25)
    assert await writer.events() == ["position_matched"]


async def test_a_position_that_is_synced_again_and_again_is_listed_once(writer: DatabaseWriter) -> None:
    first = await writer.sync(0)
    for second in range(1, 5):
        await writer.sync(second, current_price=1955 + second)
    book = await writer.book()
    assert list(book) == ["1"]
    assert book["1"]["current_price"] == 1959
    assert book["1"]["position_id"] == str(first)
    assert book["1"]["entry_time"] == writer.at(0).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def test_a_tenth_of_a_lot_of_gold_from_1950_50_to_1955_75_is_worth_52_50(
    writer: DatabaseWriter,
) -> None:
    await writer.sync()
    shown = (await writer.book())["1"]
    assert (shown["unrealized_pnl"], shown["unrealized_pnl_pct"]) == (52.5, 0.27)
    assert "contract_size_assumed" not in shown
    position = await writer.position()
    assert (position["pnl"], position["pnl_pct"]) == (Decimal("52.50"), Decimal("0.27"))
    assert (position["quote_currency"], position["contract_size"]) == ("USD", 100)


async def test_a_sell_earns_when_the_price_falls(writer: DatabaseWriter) -> None:
    await writer.sync(direction="SELL", symbol="eurusd", volume=1, entry_price="1.1", current_price="1.0999")
    assert (await writer.position())["pnl"] == Decimal(10)


async def test_an_unknown_symbol_counts_in_units_of_the_accounts_currency(writer: DatabaseWriter) -> None:
    await writer.equity(1000, currency="chf")
    await writer.sync(symbol="ACME", volume=2, entry_price=10, current_price=11)
    position = await writer.position()
    assert position["contract_size_assumed"]
    assert position["quote_currency"] == "CHF"
    assert position["pnl"] == 2


async def test_an_unknown_symbol_follows_the_accounts_currency(writer: DatabaseWriter) -> None:
    await writer.sync(symbol="ACME")
    assert (await writer.position())["quote_currency"] == "USD"
    await writer.equity(1000, currency="GBP")
    assert (await writer.position())["quote_currency"] == "GBP"


async def test_profit_is_unknown_without_direction_and_zero_without_a_current_price(
    writer: DatabaseWriter,
) -> None:
    await writer.sync(ticket=1, direction="sideways")
    await writer.sync(ticket=2, current_price=None)
    assert (await writer.position(1))["pnl"] is None
    assert (await writer.position(1))["pnl_pct"] is None
    assert (await writer.position(2))["pnl"] == 0
    assert (await writer.position(2))["current_price"] is None


async def test_a_partial_close_is_an_open_row_with_less_volume(writer: DatabaseWriter) -> None:
    await writer.sync(1, volume="0.3")
    await writer.sync(2, volume="0.1")
    position = await writer.position()
    assert position["is_open"]
    assert position["volume"] == Decimal("0.1")
    assert position["entry_time"] == writer.at(1)
    assert await writer.events() == ["position_matched", "position_synced"]


# ---------------------------------------------------------------- which row counts


async def test_a_late_row_is_not_the_state_but_the_entry_time(writer: DatabaseWriter) -> None:
    await writer.sync(5, volume="0.1")
    await writer.sync(3, volume="0.9", matched=2)
    position = await writer.position()
    assert position["volume"] == Decimal("0.1")
    assert position["matched"] == 1
    assert position["entry_time"] == writer.at(3)
    assert await writer.events() == ["position_matched"]
    assert (await writer.account())["total_syncs"] == 2


async def test_of_rows_of_one_time_the_last_to_arrive_is_the_state(writer: DatabaseWriter) -> None:
    for price in (1960, 1940, 1950):
        await writer.sync(1, current_price=price)
    assert await prices(writer) == {"1": 1950}


async def test_of_rows_of_one_time_in_one_statement_the_last_is_the_state(writer: DatabaseWriter) -> None:
    await writer.execute(
        """INSERT INTO reconciliation_logs
           (user_id, mt5_position_id, event_type, matched, current_price, created_at)
           SELECT $1, 1, 'sync', 1, price, $2 FROM unnest('{7,3,9,5}'::numeric[]) AS price""",
        writer.user_id,
        writer.at(0),
    )
    assert await prices(writer) == {"1": 5}


async def test_an_update_in_place_is_a_new_arrival_of_the_row(writer: DatabaseWriter) -> None:
    row_id = await writer.sync(1, current_price=1)
    await writer.sync(1, current_price=2)
    await writer.update(row_id, current_price=3)
    assert await prices(writer) == {"1": 3}


async def test_two_updates_of_a_row_in_one_transaction_end_in_the_second(writer: DatabaseWriter) -> None:
    row_id = await writer.sync()
    async with writer.connection.transaction():
        await writer.update(row_id, current_price=3)
        await writer.update(row_id, current_price=4)
    assert await prices(writer) == {"1": 4}
    assert (await writer.account())["total_syncs"] == 1


async def test_a_row_that_moves_to_another_ticket_or_account_is_the_first_of_both(
    writer: DatabaseWriter,
) -> None:
    other = writer.of()
    row_id = await writer.sync(ticket=7)
    await writer.update(row_id, mt5_position_id=8)
    await writer.update(row_id, user_id=other.user_id)
    seven, eight = await writer.position(7), await writer.position(8)
    moved = await other.position(8)
    assert seven["position_id"] == row_id
    assert len({seven["position_id"], eight["position_id"], moved["position_id"]}) == 3
    assert list(await other.book()) == ["8"]
    assert await writer.set_aside() == []


async def test_a_row_that_moves_to_another_ticket_in_one_transaction_is_the_first_of_both(
    writer: DatabaseWriter,
) -> None:
    async with writer.connection.transaction():
        row_id = await writer.sync(ticket=8)
        await writer.update(row_id, mt5_position_id=7)
    assert set(await writer.book()) == {"7", "8"}
    assert (await writer.position(8))["position_id"] == row_id
    assert await writer.set_aside() == []


async def test_deleting_and_truncating_the_log_and_equity_change_nothing_shown(
    writer: DatabaseWriter,
) -> None:
    await writer.sync()
    await writer.equity(1000)
    before = await writer.evaluation()
    for table in ("reconciliation_logs", "equity_snapshots"):
        await writer.connection.execute(f"DELETE FROM {table}")
        await writer.connection.execute(f"TRUNCATE {table}")
    assert await writer.inbox() == []
    after = await writer.evaluation()
    assert (after.revision, after.state) == (before.revision, before.state)


# ---------------------------------------------------------------- closes


@pytest.mark.parametrize(
    "columns",
    [
        {"event_type": "close", "close_reason": None},
        {"event_type": "position_closed", "close_reason": None},
        {"event_type": " CLOSE "},
        {"event_type": "sync"},
        {"event_type": "divergence"},
        {"event_type": "warning"},
        {"event_type": "unmatched_position"},
    ],
)
async def test_a_close_type_row_or_a_close_reason_closes(
    writer: DatabaseWriter, columns: dict[str, Any]
) -> None:
    await writer.sync(0)
    await writer.close(1, **columns)
    assert await writer.book() == {}


async def test_a_close_closes_whenever_it_arrives(writer: DatabaseWriter) -> None:
    await writer.sync(0)
    await writer.sync(20)
    await writer.close(10, updated_at=writer.at(11))
    position = await writer.position()
    assert not position["is_open"]
    assert position["closed_at"] == writer.at(10)
    assert position["close_reason"] == "tp"
    assert position["closed_price"] == 1960
    assert position["updated_at"] == writer.at(11)


async def test_a_close_before_all_syncs_in_time_closes_too(writer: DatabaseWriter) -> None:
    await writer.sync(10)
    await writer.close(0)
    assert await writer.book() == {}


async def test_a_close_of_the_same_time_wins_whatever_came_first(writer: DatabaseWriter) -> None:
    await writer.close(1)
    await writer.sync(1)
    await writer.sync(2, ticket=2)
    await writer.close(2, ticket=2)
    assert await writer.book() == {}


async def test_only_an_open_row_later_than_every_close_reopens(writer: DatabaseWriter) -> None:
    await writer.sync(1)
    await writer.close(5)
    await writer.sync(5)
    assert not (await writer.position())["is_open"]
    await writer.sync(6, volume="0.2")
    position = await writer.position()
    assert position["is_open"]
    assert position["volume"] == Decimal("0.2")
    assert position["entry_time"] == writer.at(1)
    assert position["close_reason"] is None
    assert position["closed_at"] is None
    assert position["closed_price"] is None
    assert await writer.events() == ["position_matched", "position_closed", "position_matched"]


async def test_a_close_of_a_ticket_never_seen_is_remembered(writer: DatabaseWriter) -> None:
    row_id = await writer.close(5)
    await writer.sync(4)
    position = await writer.position()
    assert not position["is_open"]
    assert position["position_id"] == row_id
    assert position["entry_time"] == writer.at(4)
    assert await writer.events() == ["position_closed"]


async def test_a_row_that_is_closed_in_place_closes_and_does_not_reopen_in_place(
    writer: DatabaseWriter,
) -> None:
    row_id = await writer.sync(1)
    await writer.update(row_id, close_reason="manual", closed_price="1958")
    assert not (await writer.position())["is_open"]
    await writer.update(row_id, close_reason=None)
    assert not (await writer.position())["is_open"]
    assert (await writer.account())["total_syncs"] == 1


async def test_a_row_that_is_inserted_and_closed_in_one_transaction_is_closed(writer: DatabaseWriter) -> None:
    async with writer.connection.transaction():
        row_id = await writer.sync()
        await writer.update(row_id, close_reason="manual")
    assert await writer.book() == {}
    assert (await writer.account())["total_syncs"] == 1


# ---------------------------------------------------------------- matched, failed, events


async def test_a_divergence_is_counted_until_a_matched_row_follows(writer: DatabaseWriter) -> None:
    await writer.sync(1)
    await writer.sync(2, event_type="divergence", matched=None, divergence_reason="volume")
    status = (await writer.state())["status"]
    assert (status["status"], status["divergences_detected"]) == ("warning", 1)
    assert await writer.book() == {}
    await writer.sync(3)
    status = (await writer.state())["status"]
    assert (status["status"], status["divergences_detected"]) == ("healthy", 0)
    assert await writer.events() == ["position_matched", "divergence_detected", "position_matched"]


async def test_a_sync_after_a_divergence_event_of_the_same_words_is_matched_by_its_own_kind(
    writer: DatabaseWriter,
) -> None:
    """The rows are alike in every column but the event type, which gives `matched` its meaning."""
    await writer.sync(1)
    await writer.sync(2, event_type="warning", matched=None)
    await writer.sync(3, matched=None)
    assert (await writer.position())["matched"] == 0


async def test_failed_rows_and_guard_triggers_make_no_position(writer: DatabaseWriter) -> None:
    await writer.sync(status=" Failed ")
    await writer.guard("gap", 100, 101, mt5_position_id=1)
    assert await writer.book() == {}


async def test_failed_rows_say_nothing_of_the_position(writer: DatabaseWriter) -> None:
    await writer.sync(1)
    await writer.sync(2, status=" FAILED ", volume="5", error_message="no connection")
    assert (await writer.position())["volume"] == Decimal("0.1")
    account = await writer.account()
    assert account["error_message"] == "no connection"
    assert account["last_sync_at"] == writer.at(1)
    await writer.sync(3)
    assert (await writer.account())["error_message"] is None


async def test_a_failed_sync_counts_but_is_no_sign_of_life(writer: DatabaseWriter) -> None:
    await writer.sync(status="failed", error_message="no connection")
    status = (await writer.state())["status"]
    assert (status["total_syncs"], status["source"]) == (1, "silent")
    assert status["error_message"] == "no connection"
    assert "last_sync_at" not in status


async def test_rows_of_other_event_types_are_recorded_and_change_nothing(writer: DatabaseWriter) -> None:
    await writer.sync(event_type="heartbeat")
    assert await writer.position() == {}
    assert len(await writer.rows("arrivals")) == 1


async def test_the_five_newest_events_are_kept(writer: DatabaseWriter) -> None:
    rows = [await writer.sync(second, volume=second + 1) for second in range(7)]
    events = (await writer.state())["status"]["recent_events"]
    assert set(events) == {str(row) for row in rows[2:]}


async def test_a_sync_that_changes_only_prices_is_no_event(writer: DatabaseWriter) -> None:
    opened = await writer.sync(0)
    await writer.sync(1, current_price=2000)
    assert list((await writer.state())["status"]["recent_events"]) == [str(opened)]


async def test_a_sync_takes_as_long_as_updated_at_is_after_created_at(writer: DatabaseWriter) -> None:
    await writer.sync(0, updated_at=writer.at(0.25))
    assert (await writer.state())["status"]["last_sync_duration_ms"] == 250
    await writer.sync(1, updated_at=writer.at(0.5))
    assert "last_sync_duration_ms" not in (await writer.state())["status"]


async def test_rows_of_many_accounts_move_each_of_them_and_nobody_else(writer: DatabaseWriter) -> None:
    others = [writer.of(uuid4()) for _ in range(20)]
    await writer.sync()
    before = await writer.revision()
    async with writer.connection.transaction():
        for each in others:
            await each.sync()
    assert [list(await each.book()) for each in others] == [["1"]] * 20
    assert await writer.revision() == before

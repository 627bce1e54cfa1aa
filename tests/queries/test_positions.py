"""What a row says about a position, and which of many rows is believed."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.queries.ledger import Ledger


async def prices(ledger: Ledger, user: UUID) -> dict[str, float]:
    return {ticket: position["current_price"] for ticket, position in (await ledger.book(user)).items()}


async def test_a_position_that_is_synced_again_and_again_is_listed_once(ledger: Ledger, user: UUID) -> None:
    first = await ledger.log(user, 0)
    for second in range(1, 5):
        await ledger.log(user, second, current_price=1955 + second)
    book = await ledger.book(user)
    assert list(book) == ["1"]
    assert book["1"]["current_price"] == 1959
    assert book["1"]["position_id"] == str(first)
    assert book["1"]["entry_time"] == ledger.at(0).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def test_a_tenth_of_a_lot_of_gold_from_1950_50_to_1955_75_is_worth_52_50(
    ledger: Ledger, user: UUID
) -> None:
    await ledger.log(user)
    position = (await ledger.book(user))["1"]
    assert (position["unrealized_pnl"], position["unrealized_pnl_pct"]) == (52.5, 0.27)
    assert "contract_size_assumed" not in position


async def test_a_late_row_is_not_the_state_but_the_entry_time(ledger: Ledger, user: UUID) -> None:
    await ledger.log(user, 10, current_price=1960)
    await ledger.log(user, 5, current_price=1940)
    position = (await ledger.book(user))["1"]
    assert position["current_price"] == 1960
    assert position["entry_time"] == ledger.at(5).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def test_of_rows_of_one_time_the_last_to_arrive_is_the_state(ledger: Ledger, user: UUID) -> None:
    for price in (1960, 1940, 1950):
        await ledger.log(user, 1, current_price=price)
    assert await prices(ledger, user) == {"1": 1950}


async def test_of_rows_of_one_time_in_one_statement_the_last_is_the_state(ledger: Ledger, user: UUID) -> None:
    await ledger.connection.execute(
        """INSERT INTO reconciliation_logs
           (user_id, mt5_position_id, event_type, matched, current_price, created_at)
           SELECT $1, 1, 'sync', 1, price, $2 FROM unnest('{7,3,9,5}'::numeric[]) AS price""",
        user,
        ledger.at(0),
    )
    assert await prices(ledger, user) == {"1": 5}


async def test_a_partial_close_is_an_open_row_with_less_volume(ledger: Ledger, user: UUID) -> None:
    await ledger.log(user, 0, volume=1)
    await ledger.log(user, 1, volume="0.4")
    assert (await ledger.book(user))["1"]["volume"] == 0.4


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
    ledger: Ledger, user: UUID, columns: dict[str, Any]
) -> None:
    await ledger.log(user, 0)
    await ledger.close(user, 1, **columns)
    assert await ledger.book(user) == {}


async def test_a_close_closes_whenever_it_arrives(ledger: Ledger, user: UUID) -> None:
    await ledger.log(user, 0)
    await ledger.log(user, 20)
    await ledger.close(user, 10)
    assert await ledger.book(user) == {}


async def test_a_close_before_all_syncs_in_time_closes_too(ledger: Ledger, user: UUID) -> None:
    await ledger.log(user, 10)
    await ledger.close(user, 0)
    assert await ledger.book(user) == {}


async def test_a_close_of_the_same_time_wins_whatever_came_first(ledger: Ledger, user: UUID) -> None:
    await ledger.close(user, 1)
    await ledger.log(user, 1)
    await ledger.log(user, 2, mt5_position_id=2)
    await ledger.close(user, 2, mt5_position_id=2)
    assert await ledger.book(user) == {}


async def test_only_a_row_later_in_time_and_in_arrival_reopens(ledger: Ledger, user: UUID) -> None:
    await ledger.log(user, 0)
    await ledger.close(user, 10)
    await ledger.log(user, 5)
    assert await ledger.book(user) == {}
    await ledger.log(user, 11, current_price=1999)
    assert await prices(ledger, user) == {"1": 1999}


async def test_a_row_that_is_closed_in_place_is_a_close(ledger: Ledger, user: UUID) -> None:
    row = await ledger.log(user, 0)
    await ledger.update(row, close_reason="stop loss")
    assert await ledger.book(user) == {}


async def test_taking_back_a_close_in_place_does_not_reopen(ledger: Ledger, user: UUID) -> None:
    row = await ledger.log(user, 0)
    await ledger.update(row, close_reason="stop loss")
    await ledger.update(row, close_reason=None)
    assert await ledger.book(user) == {}


async def test_an_update_in_place_is_a_new_arrival_of_the_row(ledger: Ledger, user: UUID) -> None:
    row = await ledger.log(user, 1, current_price=1)
    await ledger.log(user, 1, current_price=2)
    await ledger.update(row, current_price=3)
    assert await prices(ledger, user) == {"1": 3}


async def test_two_updates_of_a_row_in_one_transaction_end_in_the_second(ledger: Ledger, user: UUID) -> None:
    row = await ledger.log(user)
    async with ledger.connection.transaction():
        await ledger.update(row, current_price=3)
        await ledger.update(row, current_price=4)
    assert await prices(ledger, user) == {"1": 4}
    assert (await ledger.state(user))["status"]["total_syncs"] == 1


async def test_a_row_that_is_inserted_and_closed_in_one_transaction_is_closed(
    ledger: Ledger, user: UUID
) -> None:
    async with ledger.connection.transaction():
        row = await ledger.log(user)
        await ledger.update(row, close_reason="manual")
    state = await ledger.state(user)
    assert state["positions"]["open"] == {}
    assert state["status"]["total_syncs"] == 1


async def test_a_row_moved_to_another_account_is_the_other_accounts(ledger: Ledger, user: UUID) -> None:
    other = uuid4()
    row = await ledger.log(user)
    await ledger.update(row, user_id=other)
    assert list(await ledger.book(other)) == ["1"]
    assert await ledger.notes() == []


async def test_deleting_and_truncating_change_nothing_shown(ledger: Ledger, user: UUID) -> None:
    await ledger.log(user)
    before = await ledger.state(user)
    await ledger.connection.execute("DELETE FROM reconciliation_logs")
    await ledger.connection.execute("TRUNCATE reconciliation_logs")
    assert await ledger.state(user) == before


async def test_failed_rows_and_guard_triggers_bear_no_position(ledger: Ledger, user: UUID) -> None:
    await ledger.log(user, status=" Failed ")
    await ledger.log(user, event_type="guard_trigger", divergence_reason="gap")
    assert await ledger.book(user) == {}


async def test_a_failed_sync_counts_but_is_no_sign_of_life(ledger: Ledger, user: UUID) -> None:
    await ledger.log(user, status="failed", error_message="no connection")
    status = (await ledger.state(user))["status"]
    assert (status["total_syncs"], status["source"]) == (1, "silent")
    assert status["error_message"] == "no connection"
    assert "last_sync_at" not in status


async def test_a_divergence_is_counted_while_it_stands(ledger: Ledger, user: UUID) -> None:
    await ledger.log(user, 0)
    await ledger.log(user, 1, event_type="divergence", matched=None)
    status = (await ledger.state(user))["status"]
    assert (status["status"], status["divergences_detected"]) == ("warning", 1)
    assert await ledger.book(user) == {}
    await ledger.log(user, 2)
    status = (await ledger.state(user))["status"]
    assert (status["status"], status["divergences_detected"]) == ("healthy", 0)


async def test_the_five_newest_events_are_kept(ledger: Ledger, user: UUID) -> None:
    rows = [await ledger.log(user, second, volume=second + 1) for second in range(7)]
    events = (await ledger.state(user))["status"]["recent_events"]
    assert set(events) == {str(row) for row in rows[2:]}


async def test_a_sync_that_changes_only_prices_is_no_event(ledger: Ledger, user: UUID) -> None:
    opened = await ledger.log(user, 0)
    await ledger.log(user, 1, current_price=2000)
    assert list((await ledger.state(user))["status"]["recent_events"]) == [str(opened)]


async def test_a_sync_takes_as_long_as_updated_at_is_after_created_at(ledger: Ledger, user: UUID) -> None:
    await ledger.log(user, 0, updated_at=ledger.at(0.25))
    assert (await ledger.state(user))["status"]["last_sync_duration_ms"] == 250
    await ledger.log(user, 1, updated_at=ledger.at(0.5))
    assert "last_sync_duration_ms" not in (await ledger.state(user))["status"]

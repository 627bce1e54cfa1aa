"""From the stream's state to REST's documents, field by field as the contract names them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardwire.state import AccountState
from realtime.delivery.http import documents
from realtime.delivery.http.operations import EXAMPLE_STATE
from tests.delivery.platform import GOLD

USER = "5f2b7c1e-3d4a-4e8b-9c6d-0a1b2c3d4e5f"

EMPTY: dict[str, Any] = {
    "status": {
        "status": "idle",
        "source": "silent",
        "total_syncs": 0,
        "open_positions_count": 0,
        "matched_positions": 0,
        "divergences_detected": 0,
        "recent_events": {},
    },
    "positions": {"total_positions": 0, "total_unrealized_pnl": 0.0, "open": {}},
    "guards": {
        "system_status": "unknown",
        "any_positions_should_close": False,
        "drawdown": {
            "alert_type": "unknown",
            "should_close_all": False,
            "alert_threshold_pct": 15.0,
            "warning_pct": 15.0,
            "critical_pct": 20.0,
            "minimum_equity": 100.0,
        },
        "alerts": {},
        "breaches": {},
    },
}


def position(**fields: Any) -> dict[str, Any]:
    return {
        "position_id": "0b8f5a52-4f0e-4d6f-9a57-2f1c3f6a7b2e",
        "entry_time": "2025-01-15T09:00:00.000000Z",
        "last_updated_at": "2025-01-15T10:00:00.000000Z",
        **fields,
    }


def book(**positions: dict[str, Any]) -> dict[str, Any]:
    return {"total_positions": len(positions), "open": {t.removeprefix("t"): p for t, p in positions.items()}}


def opened(state: dict[str, Any], symbol: str | None = None) -> Any:
    return msgspec.to_builtins(documents.open_positions(USER, state, symbol=symbol))


def test_the_states_that_these_tests_are_made_of_are_states_of_the_stream() -> None:
    for state in (EMPTY, EXAMPLE_STATE):
        assert msgspec.to_builtins(msgspec.convert(state, AccountState)) == state


def test_what_is_absent_on_the_stream_is_null_in_rest() -> None:
    assert msgspec.to_builtins(documents.reconciliation_status(USER, EMPTY["status"])) == {
        "user_id": USER,
        "status": "idle",
        "source": "silent",
        "last_sync_at": None,
        "total_syncs": 0,
        "last_sync_duration_ms": None,
        "open_positions_count": 0,
        "matched_positions": 0,
        "divergences_detected": 0,
        "recent_events": [],
        "error_message": None,
        "clock_offset_seconds": None,
        "counts_at_arrival": False,
        "recorded": True,
    }
    assert opened(EMPTY["positions"]) == {
        "user_id": USER,
        "total_positions": 0,
        "total_unrealized_pnl": 0.0,
        "total_unrealized_pnl_pct": None,
        "currency": None,
        "positions": [],
        "unmatched_positions": [],
        "last_updated_at": None,
    }
    guards = documents.guards_status(
        USER, EMPTY["guards"], as_of="2025-01-15T10:00:00.000000Z", countdown_seconds=None
    )
    assert msgspec.to_builtins(guards) == {
        "user_id": USER,
        "system_status": "unknown",
        "drawdown_guard": {
            "user_id": USER,
            "current_equity": None,
            "peak_equity": None,
            "current_drawdown_pct": None,
            "currency": None,
            "alert_type": "unknown",
            "alert_threshold_pct": 15.0,
            "should_close_all": False,
            "time_to_liquidation_seconds": None,
            "last_checked_at": None,
            "doubt": None,
            "doubted_equity": None,
        },
        "market_guard_alerts": [],
        "any_positions_should_close": False,
        "last_evaluated_at": "2025-01-15T10:00:00.000000Z",
    }


def test_a_position_has_every_field_of_the_contract() -> None:
    (listed,) = opened(EXAMPLE_STATE["positions"])["positions"]
    assert listed == {
        "position_id": "0b8f5a52-4f0e-4d6f-9a57-2f1c3f6a7b2e",
        "ticket": 2147483648,
        "last_updated_at": "2025-01-15T10:30:10.000000Z",
        **GOLD,
    }


def test_the_current_price_is_the_entry_price_until_one_is_known() -> None:
    (listed,) = opened(book(t7=position(entry_price=1.25)))["positions"]
    assert listed["current_price"] == 1.25


def test_positions_are_listed_newest_first_and_by_number_of_the_ticket_in_a_tie() -> None:
    listed = opened(
        book(
            t9=position(entry_time="2025-01-15T09:00:00.000000Z"),
            t10=position(entry_time="2025-01-15T09:00:00.000000Z"),
            t1=position(entry_time="2025-01-15T09:00:00.000001Z"),
        )
    )["positions"]
    assert [position["ticket"] for position in listed] == [1, 10, 9]


def test_a_ticket_beyond_what_a_double_holds_stays_exact() -> None:
    (listed,) = opened(book(**{f"t{2**63 - 1}": position()}))["positions"]
    assert listed["ticket"] == 9223372036854775807


@pytest.mark.parametrize("asked", ["XAUUSD", "xauusd", "XauUsd"])
def test_a_symbol_is_found_in_any_case(asked: str) -> None:
    assert opened(EXAMPLE_STATE["positions"], asked)["total_positions"] == 1


@pytest.mark.parametrize("asked", ["XAU", "XAUUSD.", "USD", "EURUSD"])
def test_a_symbol_is_matched_as_a_whole(asked: str) -> None:
    assert opened(EXAMPLE_STATE["positions"], asked) == {
        "user_id": USER,
        "total_positions": 0,
        "total_unrealized_pnl": 0.0,
        "total_unrealized_pnl_pct": None,
        "currency": "USD",
        "positions": [],
        "unmatched_positions": [],
        "last_updated_at": "2025-01-15T10:30:10.000000Z",
    }


def test_letters_that_only_share_a_case_with_those_asked_for_are_other_symbols() -> None:
    kelvin, dotless = "\u212a", "\u0131"
    listed = book(
        t1=position(symbol=kelvin), t2=position(symbol=dotless), t3=position(symbol="\u00df"), t4=position()
    )
    for asked in ("k", "i", "ss"):
        assert opened(listed, asked)["positions"] == []


def test_totals_of_one_symbol_are_of_the_positions_listed() -> None:
    state = {
        **book(
            t1=position(symbol="XAUUSD", unrealized_pnl=52.5, pnl_currency="USD"),
            t2=position(symbol="XAUUSD", unrealized_pnl=-0.07, pnl_currency="USD"),
            t3=position(symbol="DE40", unrealized_pnl=10.0, pnl_currency="EUR"),
        ),
        "currency": "USD",
    }
    whole, gold, index = opened(state), opened(state, "XAUUSD"), opened(state, "de40")
    assert (whole["total_positions"], whole["total_unrealized_pnl"], whole["currency"]) == (3, None, "USD")
    assert (gold["total_positions"], gold["total_unrealized_pnl"], gold["currency"]) == (2, 52.43, "USD")
    assert (index["total_positions"], index["total_unrealized_pnl"], index["currency"]) == (1, None, "USD")


def test_positions_that_do_not_match_are_listed_apart_and_in_no_total() -> None:
    agreed = book(t1=position(symbol="XAUUSD", unrealized_pnl=52.5, pnl_currency="USD"))
    differing = position(
        symbol="XAUUSD", matched=2, divergence_reason="volume", unconfirmed_since="2025-01-15T09:00:00Z"
    )
    state = {**agreed, "unmatched": {"2": differing}, "total_unrealized_pnl": 52.5, "currency": "USD"}
    for shown in (opened(state), opened(state, "xauusd")):
        assert (shown["total_positions"], shown["total_unrealized_pnl"]) == (1, 52.5)
        (apart,) = shown["unmatched_positions"]
        assert (apart["ticket"], apart["matched_with_bot"], apart["divergence_reason"]) == (
            2,
            False,
            "volume",
        )
    assert opened(state, "EURUSD")["unmatched_positions"] == []


def test_the_percentage_is_of_the_whole_book_or_null() -> None:
    state = {
        **book(
            t1=position(symbol="XAUUSD", unrealized_pnl=52.5, pnl_currency="USD"),
            t2=position(symbol="EURUSD", unrealized_pnl=1.0, pnl_currency="USD"),
        ),
        "total_unrealized_pnl": 53.5,
        "total_unrealized_pnl_pct": 0.54,
        "currency": "USD",
    }
    assert opened(state)["total_unrealized_pnl_pct"] == 0.54
    assert opened(state, "XAUUSD")["total_unrealized_pnl_pct"] is None
    assert opened(EXAMPLE_STATE["positions"], "XAUUSD")["total_unrealized_pnl_pct"] == 0.53


def test_a_total_that_would_leave_out_a_position_or_mix_currencies_is_null() -> None:
    for listed in (
        book(
            t1=position(symbol="A", unrealized_pnl=1.0, pnl_currency="USD"),
            t2=position(symbol="A"),
            t3=position(),
        ),
        book(
            t1=position(symbol="A", unrealized_pnl=1.0, pnl_currency="USD"),
            t2=position(symbol="A", unrealized_pnl=1.0, pnl_currency="EUR"),
            t3=position(),
        ),
    ):
        assert opened(listed, "A")["total_unrealized_pnl"] is None


@given(st.lists(st.integers(-(10**14), 10**14), max_size=60))
def test_a_total_never_errs_by_a_cent(cents: list[int]) -> None:
    positions = {
        f"t{n}": position(symbol="A", unrealized_pnl=c / 100, pnl_currency="USD")
        for n, c in enumerate(cents, 1)
    }
    listed = {**book(**positions, t999=position()), "currency": "USD"}
    total = opened(listed, "A")["total_unrealized_pnl"]
    assert Decimal(repr(total)) == Decimal(sum(cents)) / 100


def test_events_are_five_at_most_newest_first_and_in_the_order_of_arrival_in_a_tie() -> None:
    seconds = {"f": 3, "e": 5, "d": 5, "c": 1, "b": 9, "a": 2}
    events = {
        event_id: {
            "event_type": "position_synced",
            "created_at": f"2025-01-15T10:00:0{second}.000000Z",
            "description": "x",
        }
        for event_id, second in seconds.items()
    }
    document = documents.reconciliation_status(USER, {**EMPTY["status"], "recent_events": events})
    assert [event.event_id for event in document.recent_events] == ["b", "e", "d", "f", "a"]


def test_an_event_has_every_field_of_the_contract() -> None:
    (event,) = msgspec.to_builtins(documents.reconciliation_status(USER, EXAMPLE_STATE["status"]))[
        "recent_events"
    ]
    assert event == {
        "event_id": "9d3c1f6a-7b2e-4c58-8a91-6e5d4c3b2a10",
        "event_type": "divergence_detected",
        "user_id": USER,
        "created_at": "2025-01-15T10:30:10.000000Z",
        "divergence_reason": "volume_mismatch",
        "notice": None,
        "description": "EURUSD #2147483655 diverges from the broker: volume_mismatch",
        "metadata": {"symbol": "EURUSD", "mt5_ticket": 2147483655, "matched": 2, "pnl_gbp": None},
    }


def test_alerts_are_a_list_newest_first_with_every_field() -> None:
    alerts = {
        f"{symbol}:price_gap": {
            "symbol": symbol,
            "condition_type": "price_gap",
            "alert_type": "critical",
            "should_close_positions": True,
            "detected_at": at,
            "price_gap_pct": 12.5,
            "open_price": 112.5,
            "close_price": 100.0,
        }
        for symbol, at in (("OLD", "2025-01-15T09:00:00.000000Z"), ("NEW", "2025-01-15T10:00:00.000000Z"))
    }
    guards = {
        **EMPTY["guards"],
        "alerts": alerts,
        "any_positions_should_close": True,
        "system_status": "warning",
    }
    document = documents.guards_status(
        USER, guards, as_of="2025-01-15T10:00:00.000000Z", countdown_seconds=None
    )
    newest, oldest = msgspec.to_builtins(document)["market_guard_alerts"]
    assert oldest["symbol"] == "OLD"
    assert newest == {
        "symbol": "NEW",
        "condition_type": "price_gap",
        "alert_type": "critical",
        "price_gap_pct": 12.5,
        "bid_ask_spread_pct": None,
        "open_price": 112.5,
        "close_price": 100.0,
        "bid": None,
        "ask": None,
        "should_close_positions": True,
        "detected_at": "2025-01-15T10:00:00.000000Z",
    }


@pytest.mark.parametrize(
    ("now", "left"),
    [
        ("10:30:00.000000", 60),
        ("10:30:00.000001", 59),
        ("10:30:59.000000", 1),
        ("10:30:59.000001", 0),
        ("10:31:00.000000", 0),
        ("12:00:00.000000", 0),
    ],
)
def test_the_countdown_is_in_whole_seconds_never_more_than_there_are_and_never_negative(
    now: str, left: int
) -> None:
    at = datetime.fromisoformat(f"2025-01-15T{now}").replace(tzinfo=UTC)
    assert documents.countdown_seconds(EXAMPLE_STATE["guards"], at) == left


def test_without_a_liquidation_there_is_no_countdown() -> None:
    assert documents.countdown_seconds(EMPTY["guards"], datetime(2025, 1, 15, tzinfo=UTC)) is None

"""Rows that no one should write: never an error for the writer, and the account is read as before."""

from __future__ import annotations

import json
import math
from typing import Any
from uuid import UUID, uuid4

import pytest

from realtime.patch import State
from tests.queries.ledger import Ledger

BEYOND_32_BITS = 2**31
LAST_TICKET = 2**63 - 1

ODD: dict[str, dict[str, Any]] = {
    "a ticket beyond 32 bits": {"mt5_position_id": BEYOND_32_BITS},
    "the last ticket": {"mt5_position_id": LAST_TICKET},
    "a direction as a number": {"direction": "0"},
    "a direction in capitals": {"direction": "SELL"},
    "a direction that is none": {"direction": "sideways"},
    "a price that is no number": {"current_price": "NaN"},
    "an infinite price": {"current_price": "Infinity"},
    "a negative infinite price": {"entry_price": "-Infinity"},
    "a price of nothing": {"entry_price": 0, "current_price": 0},
    "a negative price": {"entry_price": -37, "current_price": -40},
    "a price too large to multiply": {"entry_price": "9" * 15, "current_price": 1, "volume": "9" * 15},
    "a price of a thousand digits": {"current_price": "9" * 1000},
    "a price too small for floating point": {"current_price": "1e-400", "entry_price": "1e-400"},
    "a volume too small for floating point": {"volume": "1e-400"},
    "a price with a thousand decimals": {"current_price": "1." + "3" * 1000},
    "no volume": {"volume": 0},
    "a negative volume": {"volume": -1},
    "a volume that is no number": {"volume": "NaN"},
    "an empty symbol": {"symbol": ""},
    "a symbol of blanks": {"symbol": " \t\n"},
    "a symbol of 10,000 characters": {"symbol": "X" * 10_000},
    "a symbol of 10,000 letters that grow in upper case": {"symbol": "ß" * 10_000},
    "a symbol with control characters": {"symbol": "A\x1fB\x01"},
    "a time before all times": {"created_at": "-infinity"},
    "a time after all times": {"created_at": "infinity", "updated_at": "infinity"},
    "the year 100000": {"created_at": "100000-01-01 00:00:00+00", "updated_at": "100000-01-02 00:00:00+00"},
    "the last moment that counts": {"created_at": "9999-12-31 23:59:59.999999+00"},
    "a time before Christ": {"created_at": "4713-01-01 00:00:00+00 BC"},
    "updated 5,000 years later": {
        "created_at": "1970-01-01 00:00:00+00",
        "updated_at": "9999-12-31 23:59:59+00",
    },
    "an unknown event type": {"event_type": "rollover"},
    "an empty event type": {"event_type": ""},
    "a matched that means nothing": {"matched": -7},
    "a long divergence reason": {"divergence_reason": "spread " * 5000},
    "a long error message": {"error_message": "é" * 50_000},
    "a guard trigger without prices": {"event_type": "guard_trigger", "divergence_reason": "gap"},
    "a guard trigger without anything": {
        "event_type": "guard_trigger",
        "mt5_position_id": None,
        "symbol": None,
        "divergence_reason": None,
        "entry_price": None,
        "current_price": None,
    },
    "a spread of opposite prices": {
        "event_type": "guard_trigger",
        "divergence_reason": "spread",
        "entry_price": -5,
        "current_price": 5,
    },
    "a gap beyond reckoning": {
        "event_type": "guard_trigger",
        "divergence_reason": "gap",
        "entry_price": "0.000000000000001",
        "current_price": "999999999999999",
    },
    "a guard trigger at the end of time": {
        "event_type": "guard_trigger",
        "created_at": "9999-12-31 23:59:59.999999+00",
    },
    "a guard trigger in the year 100000": {
        "event_type": "guard_trigger",
        "created_at": "100000-01-01 00:00:00+00",
    },
    "a close without a price": {"event_type": "close", "closed_price": "NaN", "pnl_gbp": "-Infinity"},
    "an empty row": dict.fromkeys(
        ("event_type", "mt5_position_id", "symbol", "direction", "volume", "entry_price", "current_price",
         "matched", "created_at")
    ),
    "a sync without anything": dict.fromkeys(
        ("symbol", "direction", "volume", "entry_price", "current_price", "matched", "created_at")
    ),
}  # fmt: skip

ODD_EQUITY: dict[str, dict[str, Any]] = {
    "equity that is no number": {"equity": "NaN"},
    "infinite equity": {"equity": "Infinity"},
    "negative infinite equity": {"equity": "-Infinity"},
    "no equity": {"equity": None},
    "equity of nothing": {"equity": 0},
    "negative equity": {"equity": -500},
    "equity beyond reckoning": {"equity": "1e15"},
    "equity at the edge of reckoning": {"equity": "999999999999999.999999"},
    "equity too small for floating point": {"equity": "1e-400", "balance": "1e-400"},
    "a balance that is no number": {"equity": 5000, "balance": "NaN"},
    "a flow that is no number": {"equity": 5000, "cash_flow": "NaN"},
    "an infinite flow": {"equity": 5000, "cash_flow": "Infinity"},
    "a flow beyond all equity": {"equity": 5000, "cash_flow": "-999999999999999"},
    "no currency": {"equity": 5000, "currency": None},
    "a currency of 10,000 characters": {"equity": 5000, "currency": "x" * 10_000},
    "equity in the year 100000": {"equity": 5000, "created_at": "100000-01-01 00:00:00+00"},
    "equity at the end of time": {"equity": 50, "created_at": "infinity"},
    "equity without a time": {"equity": 5000, "created_at": None},
}


def check_is_json(state: State) -> None:
    """The state can be sent: plain JSON without nulls and without numbers that are none."""

    def walk(value: Any) -> None:
        assert value is not None
        if isinstance(value, dict):
            for each in value.values():
                walk(each)
        elif isinstance(value, float):
            assert math.isfinite(value)

    walk(json.loads(json.dumps(state, allow_nan=False)))


@pytest.mark.parametrize("columns", ODD.values(), ids=ODD)
async def test_an_odd_row_of_the_log_stops_nobody(
    ledger: Ledger, user: UUID, columns: dict[str, Any]
) -> None:
    await ledger.log(user, mt5_position_id=77)
    row = await ledger.log(user, 1, **columns)
    await ledger.update(row, error_message="looked at again")
    check_is_json(await ledger.state(user))
    assert await ledger.notes() == []
    await ledger.log(user, 5, mt5_position_id=78)
    assert {"77", "78"} <= set(await ledger.book(user))


@pytest.mark.parametrize("columns", ODD_EQUITY.values(), ids=ODD_EQUITY)
async def test_an_odd_row_of_equity_stops_nobody(ledger: Ledger, user: UUID, columns: dict[str, Any]) -> None:
    await ledger.log(user)
    await ledger.equity(user, 9000, 0)
    await ledger.equity(user, **{"second": 1, **columns})
    check_is_json(await ledger.state(user))
    assert await ledger.notes() == []
    await ledger.equity(user, 8900, 3600)
    assert (await ledger.state(user))["guards"]["drawdown"]["current_equity"] == 8900


async def test_limits_too_small_for_floating_point_leave_the_account_readable(
    ledger: Ledger, user: UUID
) -> None:
    await ledger.log(user)
    await ledger.connection.execute(
        "INSERT INTO guard_limits (user_id, drawdown_warning_pct, drawdown_critical_pct, minimum_equity)"
        " VALUES ($1, 1e-400, 1e-400, 1e-400)",
        user,
    )
    drawdown = (await ledger.state(user))["guards"]["drawdown"]
    assert (drawdown["warning_pct"], drawdown["critical_pct"], drawdown["minimum_equity"]) == (0, 0, 0)


async def test_a_ticket_beyond_all_tickets_is_ignored_and_counted(ledger: Ledger, user: UUID) -> None:
    await ledger.connection.execute(
        "ALTER TABLE reconciliation_logs ALTER COLUMN mt5_position_id TYPE numeric"
    )
    odd = ("9223372036854775808", "0", "-4", "1.5", "NaN", None)
    for ticket in odd:
        await ledger.log(user, mt5_position_id=ticket)
    await ledger.log(user, mt5_position_id=str(LAST_TICKET))
    assert set(await ledger.book(user)) == {str(LAST_TICKET)}
    assert await ledger.notes() == []
    ignored = await ledger.connection.fetchval(
        "SELECT ignored_rows FROM guardwire.accounts WHERE user_id = $1", user
    )
    assert ignored == len(odd)


async def test_rows_for_nobody_are_ignored_and_counted(ledger: Ledger) -> None:
    row = await ledger.log(None)
    equity = await ledger.equity(None, 1000)
    ignored = await ledger.connection.fetch("SELECT source, row_key, reason FROM guardwire.ignored_rows")
    assert {tuple(each) for each in ignored} == {("log", str(row), "user"), ("equity", str(equity), "user")}
    assert await ledger.revisions() == {}


@pytest.mark.parametrize("odd", ["", "nobody", "{", "0" * 31, "0" * 10_000, "{" + "0" * 32])
async def test_a_text_that_names_no_user_is_nobody(ledger: Ledger, odd: str) -> None:
    await ledger.connection.execute("ALTER TABLE reconciliation_logs ALTER COLUMN user_id TYPE text")
    await ledger.log(odd)
    assert await ledger.revisions() == {}
    assert await ledger.notes() == []


async def test_a_user_is_the_same_however_it_is_written(ledger: Ledger, user: UUID) -> None:
    await ledger.connection.execute("ALTER TABLE reconciliation_logs ALTER COLUMN user_id TYPE varchar")
    for ticket, text in enumerate((str(user), str(user).upper(), user.hex, "{" + str(user) + "}"), 1):
        await ledger.log(text, mt5_position_id=ticket)
    assert list(await ledger.revisions()) == [user]
    assert set(await ledger.book(user)) == {"1", "2", "3", "4"}


async def test_an_odd_row_does_not_spoil_the_commit_that_it_is_part_of(ledger: Ledger) -> None:
    users = {name: uuid4() for name in ODD}
    async with ledger.connection.transaction():
        for name, columns in ODD.items():
            await ledger.log(users[name], 0, mt5_position_id=77)
            await ledger.log(users[name], 1, **columns)
    for user in users.values():
        assert "77" in await ledger.book(user)
    assert await ledger.notes() == []


async def test_a_number_too_small_for_floating_point_is_nothing(ledger: Ledger, user: UUID) -> None:
    await ledger.log(user, volume="1e-400")
    assert (await ledger.book(user))["1"]["volume"] == 0

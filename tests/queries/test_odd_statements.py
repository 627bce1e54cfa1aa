"""Rows that no platform should write: never an error for the writer, never a state that cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from queries.capture import rebuild
from queries.channels import LIVE_QUERIES
from tests.queries.platform import SYNC, Platform

ODD_LOG_ROWS: list[dict[str, Any]] = [
    *({"mt5_position_id": ticket} for ticket in (2**31, 2**53 + 1, 2**63 - 1, 0, -5, -(2**63), None)),
    *({"direction": direction} for direction in ("0", "1", "SELL", " Buy\t", "up", "", "x" * 10_000, None)),
    *(
        {column: value}
        for column in ("volume", "entry_price", "current_price", "take_profit", "stop_loss")
        for value in (
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "-1",
            "1e15",
            "1e131071",
            "1e-300",
            "-1e-16383",
            None,
        )
    ),
    *({"symbol": symbol} for symbol in ("", "   ", "x" * 10_000, "é中🎉", "a'b\"c", "a,b=c\x1fd", "*", None)),
    *(
        {column: moment}
        for column in ("created_at", "updated_at")
        for moment in (
            "infinity",
            "-infinity",
            "100000-01-01",
            "4713-01-01 BC",
            "1969-12-31",
            "9999-12-31",
            None,
        )
    ),
    *(
        {"event_type": kind}
        for kind in ("", "SYNC", " sync ", "unknown", "guard_trigger", "x" * 10_000, None)
    ),
    *({"status": status} for status in ("FAILED", "", "x" * 10_000, None)),
    *({"matched": matched} for matched in (-1, 3, 2**31 - 1, None)),
    *({column: "y" * 20_000} for column in ("divergence_reason", "close_reason", "error_message")),
    *(
        {
            "event_type": "guard_trigger",
            "divergence_reason": reason,
            "entry_price": before,
            "current_price": after,
        }
        for reason in ("gap", "spread", None)
        for before, after in (("1e-300", "1e14"), ("-1", "1"), ("0", "0"), ("NaN", "NaN"), ("1e14", "1e-15"))
    ),
    {"user_id": None},
    {},
    dict.fromkeys(SYNC),
]

ODD_EQUITY_ROWS: list[dict[str, Any]] = [
    *({"equity": value} for value in ("NaN", "Infinity", "1e131071", "1e-300", "-1e14", "0", None)),
    *({"balance": value} for value in ("NaN", "-Infinity", "1e131071", "1e-300", "0", None)),
    *({"cash_flow": value} for value in ("NaN", "Infinity", "1e14", "-1e14", "1e-300", None)),
    *({"currency": value} for value in ("", " eur ", "x" * 10_000, "🎉", None)),
    *({"created_at": value} for value in ("infinity", "100000-01-01", "1900-01-01", None)),
    {"user_id": None},
]


async def _read(user: Platform) -> None:
    """The live queries must be able to read the account, and what they read must be JSON."""
    (evaluation,) = await LIVE_QUERIES.evaluate(user.connection, [user.user])
    json.dumps(evaluation.state, allow_nan=False)


async def test_all_odd_rows_of_one_user_at_once_are_one_commit_and_can_be_rebuilt(platform: Platform) -> None:
    async with platform.connection.transaction():
        for odd in ODD_LOG_ROWS:
            await platform.sync(**odd)
        for odd in ODD_EQUITY_ROWS:
            await platform.equity(**{"equity": 1000, **odd})
    assert await platform.notes() == []
    await _read(platform)
    assert await rebuild(platform.connection, platform.user) > 100
    await _read(platform)
    assert (await platform.account())["ready"]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO fx_rates (base, quote, rate) VALUES (NULL, 'A', 1), (repeat('x', 99), '', 1)",
        "INSERT INTO fx_rates VALUES (DEFAULT, 'A', 'B', 1e-300, 'infinity')",
        "INSERT INTO instruments VALUES ('A,B=C' || chr(31), 1, NULL, 'USD')",
        "UPDATE instruments SET symbol = symbol || '.X'",
        "TRUNCATE fx_rates, instruments, guard_limits, equity_snapshots, reconciliation_logs",
    ],
)
async def test_odd_statements_on_the_other_tables_fail_nobody(platform: Platform, statement: str) -> None:
    await platform.sync()
    await platform.connection.execute(statement)
    assert await platform.notes() == []
    await _read(platform)

"""The quick path of the one plain sync: when it is taken, and that it makes what the general one makes."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.queries.platform import OTHER, Platform, Record, at

#: So that only what the quick path does is done.
BREAK_THE_GENERAL_PATH = """
CREATE OR REPLACE FUNCTION guardwire.capture_list(tokens text[]) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'
"""

#: What another path would have made otherwise; all that is not said here must agree.
OWN = {
    "user_id",
    "position_id",
    "revision",
    "base_revision",
    "state_revision",
    "last_sync_arrived_at",
    "sync_due_at",
}


PLAIN: list[dict[str, Any]] = [
    {},
    {"current_price": "1951.123456"},
    {"updated_at": at(1.5)},
    {"updated_at": at(0.5)},
    {"status": None},
    {"status": "ok"},
    {"slippage_pips": "0.4"},
    {"created_at": at(0)},
    {"volume": "0.10"},
]

NOT_PLAIN: list[dict[str, Any]] = [
    {"volume": "0.2"},
    {"symbol": "EURUSD"},
    {"direction": "sell"},
    {"entry_price": 1},
    {"take_profit": 2000},
    {"stop_loss": 1900},
    {"matched": 2},
    {"matched": None},
    {"divergence_reason": "volume"},
    {"event_type": "Sync"},
    {"event_type": "close"},
    {"event_type": "guard_trigger"},
    {"close_reason": ""},
    {"error_message": "late"},
    {"status": "failed"},
    {"status": " Failed"},
    {"mt5_position_id": 8},
    {"user_id": OTHER},
    {"user_id": None},
    {"mt5_position_id": None},
    {"created_at": at(-1)},
    {"created_at": None},
    {"current_price": None},
    {"current_price": "NaN"},
    {"current_price": "1e9"},
    {"current_price": "-1"},
]


async def opened(platform: Platform, count: int = 1) -> list[Platform]:
    """Platforms of so many users, each with one open position, whose next plain sync is quick."""
    users = [Platform(platform.connection, uuid4()) for _ in range(count)]
    for user in users:
        await user.sync(updated_at=at(0.5))
    return users


async def derived(user: Platform) -> tuple[Record, Record]:
    return await user.position(), await user.account()


async def test_a_sync_that_says_nothing_but_prices_and_times_is_quick(platform: Platform) -> None:
    users = await opened(platform, len(PLAIN))
    await platform.connection.execute(BREAK_THE_GENERAL_PATH)
    for user, columns in zip(users, PLAIN, strict=True):
        row_id = await user.sync(**{"created_at": at(1), **columns})
        assert (await user.position())["state_at"] == columns.get("created_at", at(1)), columns
        arrival = (await user.rows("arrivals", "revision"))[-1]
        assert arrival["log_id"] == row_id
        assert arrival["revision"] == await user.revision()
    assert await platform.notes() == []


async def test_a_row_that_says_more_is_not_quick(platform: Platform) -> None:
    users = await opened(platform, len(NOT_PLAIN))
    await platform.connection.execute(BREAK_THE_GENERAL_PATH)
    for user, columns in zip(users, NOT_PLAIN, strict=True):
        before = await derived(user)
        await user.sync(**{"created_at": at(1), **columns})
        assert await derived(user) == before, columns


async def test_an_account_or_position_in_another_state_is_not_quick(platform: Platform) -> None:
    silent, unready, failing, closed = users = await opened(platform, 4)
    await closed.close(created_at=at(0.1))
    await failing.sync(created_at=at(0.1), status="failed", error_message="no connection")
    for user, column in ((silent, "source = 'silent'"), (unready, "ready = false")):
        await platform.connection.execute(
            f"UPDATE guardwire.accounts SET {column} WHERE user_id = $1", user.user
        )
    await platform.connection.execute(BREAK_THE_GENERAL_PATH)
    for user in users:
        before = await derived(user)
        await user.sync(created_at=at(1))
        assert await derived(user) == before


async def test_a_row_that_is_not_alone_in_its_transaction_is_not_quick(platform: Platform) -> None:
    (user,) = await opened(platform)
    await user.connection.execute(BREAK_THE_GENERAL_PATH)
    revision = await user.revision()
    async with user.connection.transaction():
        row_id = await user.sync(created_at=at(1))
        await user.update(row_id, current_price=1)
    async with user.connection.transaction():
        row_id = await user.sync(created_at=at(1))
        await user.connection.execute("DELETE FROM reconciliation_logs WHERE id = $1", row_id)
    assert await user.revision() == revision


@pytest.mark.parametrize("direction", ["buy", "sell"])
async def test_both_paths_make_the_same(platform: Platform, direction: str) -> None:
    """The other user's rows are written as transactions of two, which are never quick."""
    other = Platform(platform.connection, OTHER)
    prices = ["1950.5", "1951.123456789", "0.000000000000000123", "1949.99995", "999999.99"]
    for second, price in enumerate(prices):
        columns = {
            "created_at": at(second), "updated_at": at(second + 0.004), "direction": direction,
            "current_price": price, "entry_price": "1950.50", "volume": "0.13",
        }  # fmt: skip
        await platform.sync(**columns)
        async with platform.connection.transaction():
            await other.sync(**columns)
            await other.sync(event_type="nothing")
        for quick, general in (
            (await platform.position(), await other.position()),
            (await platform.account(), await other.account()),
        ):
            assert {k: v for k, v in quick.items() if k not in OWN} == {
                k: v for k, v in general.items() if k not in OWN
            }


async def test_a_position_of_more_than_this_world_is_never_quick(platform: Platform) -> None:
    await platform.sync(volume="1e12")
    assert (await platform.position())["fingerprint"] is None
    await platform.sync(created_at=at(1), volume="1e12", current_price="999999")
    assert (await platform.position())["pnl"] is None

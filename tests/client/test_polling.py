"""Where streams are held back on the way: one request after another."""

from __future__ import annotations

import asyncio

import pytest

from guardwire import ConnectionRefused, connect
from tests.client.http_peer import HttpPeer, next_poll, polling, snapshot, update
from tests.client.states import status
from tests.client.waiting import eventually, until

STATE = {"status": status()}
HELD = "8:100"


async def test_the_state_is_polled_where_a_proxy_holds_streams_back(
    http_peer: HttpPeer, no_way_back: None
) -> None:
    async with polling(http_peer) as account:
        assert account.transport == "poll"
        poll = await next_poll(http_peer)
        assert poll.query == {"channels": "status", "since": HELD, "wait": "5"}
        assert poll.headers["Authorization"] == "Bearer t0k3n"
        poll.frame(update(100, 103, {"status": {"total_syncs": 8}}))
        await until(account, revision=103)
        (poll := await next_poll(http_peer)).unchanged(107, age_ms=900)
        assert poll.query["since"] == "8:103"
        await until(account, revision=107)
        assert account.age is not None
        assert 0.9 <= account.age < 2
        assert (await next_poll(http_peer)).query["since"] == "8:107"


async def test_an_event_stream_that_is_buffered_on_the_way_falls_back_to_polling(
    http_peer: HttpPeer, no_way_back: None
) -> None:
    http_peer.shorten(first_frame_seconds=0.5)

    async def answer() -> None:
        (await http_peer.polling.get()).frame(snapshot(100, STATE))

    answering = asyncio.ensure_future(answer())
    async with connect(http_peer.url, token="t", channels=["status"], timing=http_peer.timing) as account:
        assert account.transport == "poll"
    await answering


async def test_an_answer_without_an_age_does_not_make_the_state_fresh(
    http_peer: HttpPeer, no_way_back: None, brisk: None
) -> None:
    async with polling(http_peer) as account:
        assert account.fresh
        (await next_poll(http_peer)).unchanged(100, age_ms=None)
        await eventually(lambda: not account.fresh)
        (await next_poll(http_peer)).unchanged(100, age_ms=10)
        await eventually(lambda: account.fresh)
        (await next_poll(http_peer)).unchanged(100, age_ms=10, stale=True)
        await eventually(lambda: account.status == "stale")


async def test_a_poll_from_before_the_history_is_answered_with_a_snapshot(
    http_peer: HttpPeer, no_way_back: None, brisk: None
) -> None:
    async with polling(http_peer) as account:
        (await next_poll(http_peer)).frame(snapshot(7, {"status": status(total_syncs=1)}, epoch=16))
        await until(account, revision=7)
        assert account.epoch == 16
        assert (await next_poll(http_peer)).query["since"] == "16:7"


async def test_after_a_missed_frame_the_next_poll_requests_a_snapshot(
    http_peer: HttpPeer, no_way_back: None, brisk: None
) -> None:
    async with polling(http_peer) as account:
        (await next_poll(http_peer)).frame(update(102, 103, {}))
        again = await next_poll(http_peer)
        assert "since" not in again.query
        again.frame(snapshot(103, STATE))
        await until(account, revision=103)


async def test_a_token_that_expired_between_polls_is_replaced(
    http_peer: HttpPeer, no_way_back: None, brisk: None
) -> None:
    tokens = iter(["one", "two", "three", "four"])
    async with polling(http_peer, token=lambda: next(tokens)) as account:
        (await next_poll(http_peer)).refuse(401)
        again = await next_poll(http_peer)
        assert again.headers["Authorization"] == "Bearer four"
        assert again.query["since"] == HELD
        again.unchanged(100)
        await asyncio.wait_for(account.until_fresh(), 5)


@pytest.mark.parametrize("status_code", [400, 403, 422])
async def test_a_poll_that_is_refused_for_good_ends_the_client(
    http_peer: HttpPeer, no_way_back: None, status_code: int
) -> None:
    async with polling(http_peer) as account:
        changes = account.changes("status", "source")
        await anext(changes)
        (await next_poll(http_peer)).refuse(status_code)
        with pytest.raises(ConnectionRefused) as refused:
            await asyncio.wait_for(anext(changes), 5)
        assert refused.value.status == status_code

"""Where WebSockets do not get through: event stream, long poll, and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from realtime.client import Account, ConnectionRefused, connect, ladder, link_life, long_poll
from tests.client.http_peer import HttpPeer, Polling, Streaming, snapshot, update
from tests.client.states import guards, status
from tests.client.waiting import eventually, until

STATE = {"status": status()}
HELD = "8:100"


@pytest.fixture
async def peer() -> AsyncIterator[HttpPeer]:
    peer = HttpPeer()
    async with peer.listening():
        yield peer


@pytest.fixture
def no_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "_FIRST_RETURN_SECONDS", 3600.0)


@asynccontextmanager
async def streaming(peer: HttpPeer, **options: Any) -> AsyncIterator[tuple[Account, Streaming]]:
    """An account with channel ``status`` at revision 100 over an event stream."""

    async def answer() -> Streaming:
        stream = await peer.streaming.get()
        await stream.begin(100, STATE)
        return stream

    answered = asyncio.get_running_loop().create_task(answer())
    async with connect(peer.url, **{"token": lambda: "t0k3n", "channels": ["status"], **options}) as account:
        stream = await answered
        yield account, stream


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_poll, "_SHORTEST_ROUND_SECONDS", 0.05)


@asynccontextmanager
async def polling(peer: HttpPeer, **options: Any) -> AsyncIterator[Account]:
    """An account with channel ``status`` at revision 100 over long polls."""

    async def answer() -> None:
        (await peer.polling.get()).frame(snapshot(100, STATE))

    answered = asyncio.get_running_loop().create_task(answer())
    peer.stream_status = 404
    async with connect(peer.url, **{"token": lambda: "t0k3n", "channels": ["status"], **options}) as account:
        await answered
        yield account


async def next_poll(peer: HttpPeer) -> Polling:
    return await asyncio.wait_for(peer.polling.get(), 5)


async def next_stream(peer: HttpPeer) -> Streaming:
    return await asyncio.wait_for(peer.streaming.get(), 5)


async def test_a_websocket_that_is_denied_falls_back_to_an_event_stream(
    peer: HttpPeer, no_way_back: None
) -> None:
    async with streaming(peer) as (account, stream):
        assert stream.headers["Authorization"] == "Bearer t0k3n"
        assert stream.query == {"channels": "status"}
        assert account.transport == "sse"
        await stream.update(100, 101, {"status": {"total_syncs": 8}})
        await until(account, revision=101)
        assert account.fresh
    assert peer.handshakes == 1


async def test_a_websocket_that_swallows_frames_falls_back_after_two_tries(
    peer: HttpPeer, no_way_back: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_life, "FIRST_FRAME_WITHIN_SECONDS", 0.5)
    peer.sockets = "silent"
    async with streaming(peer) as (account, _):
        assert account.transport == "sse"
    assert peer.handshakes == 2


async def test_an_event_stream_resumes_by_its_last_event(peer: HttpPeer, no_way_back: None) -> None:
    async with streaming(peer) as (account, stream):
        await stream.heartbeat(100, 104)
        await until(account, revision=104)
        stream.end()
        again = await next_stream(peer)
        assert again.headers["Last-Event-ID"] == "8:104"
        await again.welcome(resumed=True)
        await again.update(104, 105, {"status": {"total_syncs": 8}})
        await until(account, revision=105)


async def test_events_may_come_in_any_pieces_and_with_any_line_ends(
    peer: HttpPeer, no_way_back: None
) -> None:
    async with streaming(peer) as (account, stream):
        for piece in (
            b": a comment\r\nid: 8:101\r",
            b'\nevent: message\ndata: {"type":"update","base":100,"revi',
            b'sion":101,\r',
            b'\ndata: "as_of":"","age_ms":0,"patch":{"status":{"error_message":"\xc3',
            b'\xa9"}}}\n',
            b"\r\n",
        ):
            stream.raw(piece)
            await asyncio.sleep(0.02)
        await until(account, revision=101)
        assert account.state.status is not None
        assert account.state.status.error_message == "é"


async def test_a_gap_in_an_event_stream_opens_another_that_brings_a_snapshot(
    peer: HttpPeer, no_way_back: None
) -> None:
    async with streaming(peer) as (account, stream):
        await stream.update(103, 104, {})
        again = await next_stream(peer)
        assert "Last-Event-ID" not in again.headers
        assert account.revision == 100
        assert not account.fresh
        await again.begin(104, {"status": status(total_syncs=9)})
        await until(account, revision=104)
        assert account.fresh


async def test_a_token_that_ends_is_replaced_by_another_event_stream(
    peer: HttpPeer, no_way_back: None
) -> None:
    tokens = iter(["one", "two", "three", "four"])
    async with streaming(peer, token=lambda: next(tokens)) as (account, stream):
        assert stream.headers["Authorization"] == "Bearer two"
        await stream.say(type="auth_required", expires_at=1_700_000_000)
        again = await next_stream(peer)
        assert again.headers["Authorization"] == "Bearer three"
        assert again.headers["Last-Event-ID"] == HELD
        await again.welcome(resumed=True)
        await again.heartbeat(100, 101)
        await asyncio.wait_for(account.until_fresh(), 5)


async def test_the_last_word_of_an_event_stream_can_be_final(peer: HttpPeer, no_way_back: None) -> None:
    async with streaming(peer) as (account, stream):
        changes = account.changes("status", "source")
        await anext(changes)
        await stream.say(type="error", code="revoked", message="access has been revoked", retry=False)
        stream.end()
        with pytest.raises(ConnectionRefused, match="access has been revoked") as refused:
            await asyncio.wait_for(anext(changes), 5)
        assert refused.value.status == 4403


async def test_a_draining_node_is_left_for_another(peer: HttpPeer, no_way_back: None) -> None:
    async with streaming(peer) as (account, stream):
        await stream.say(type="error", code="draining", message="the server is restarting", retry=True)
        stream.end()
        again = await next_stream(peer)
        await again.welcome(resumed=True)
        await again.heartbeat(100, 101)
        await asyncio.wait_for(account.until_fresh(), 5)


async def test_channels_chosen_on_an_event_stream_take_another_one(peer: HttpPeer, no_way_back: None) -> None:
    async with streaming(peer) as (account, _):
        adding = asyncio.ensure_future(account.subscribe("guards"))
        again = await next_stream(peer)
        assert again.query == {"channels": "status,guards"}
        assert "Last-Event-ID" not in again.headers
        await again.begin(101, {"status": status(), "guards": guards()})
        await asyncio.wait_for(adding, 5)
        assert account.state.guards is not None


async def test_where_streams_are_held_back_the_state_is_polled(peer: HttpPeer, no_way_back: None) -> None:
    async with polling(peer) as account:
        assert account.transport == "poll"
        poll = await next_poll(peer)
        assert poll.query == {"channels": "status", "since": HELD, "wait": "5"}
        assert poll.headers["Authorization"] == "Bearer t0k3n"
        poll.frame(update(100, 103, {"status": {"total_syncs": 8}}))
        await until(account, revision=103)
        (poll := await next_poll(peer)).unchanged(107, age_ms=900)
        assert poll.query["since"] == "8:103"
        await until(account, revision=107)
        assert account.age is not None
        assert 0.9 <= account.age < 2
        assert (await next_poll(peer)).query["since"] == "8:107"


async def test_an_event_stream_that_is_buffered_on_the_way_falls_back_to_polling(
    peer: HttpPeer, no_way_back: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_life, "FIRST_FRAME_WITHIN_SECONDS", 0.5)

    async def answer() -> None:
        (await peer.polling.get()).frame(snapshot(100, STATE))

    answering = asyncio.ensure_future(answer())
    async with connect(peer.url, token="t", channels=["status"]) as account:
        assert account.transport == "poll"
    await answering


async def test_a_poll_that_does_not_know_its_age_confirms_nothing(
    peer: HttpPeer, no_way_back: None, brisk: None
) -> None:
    async with polling(peer) as account:
        assert account.fresh
        (await next_poll(peer)).unchanged(100, age_ms=None)
        await eventually(lambda: not account.fresh)
        (await next_poll(peer)).unchanged(100, age_ms=10)
        await eventually(lambda: account.fresh)
        (await next_poll(peer)).unchanged(100, age_ms=10, stale=True)
        await eventually(lambda: account.status == "stale")


async def test_history_that_does_not_reach_back_is_answered_with_a_snapshot(
    peer: HttpPeer, no_way_back: None, brisk: None
) -> None:
    async with polling(peer) as account:
        (await next_poll(peer)).frame(snapshot(7, {"status": status(total_syncs=1)}, epoch=16))
        await until(account, revision=7)
        assert account.epoch == 16
        assert (await next_poll(peer)).query["since"] == "16:7"


async def test_a_gap_while_polling_is_mended_by_a_poll_without_a_position(
    peer: HttpPeer, no_way_back: None, brisk: None
) -> None:
    async with polling(peer) as account:
        (await next_poll(peer)).frame(update(102, 103, {}))
        again = await next_poll(peer)
        assert "since" not in again.query
        again.frame(snapshot(103, STATE))
        await until(account, revision=103)


async def test_a_token_that_expired_between_polls_is_replaced(
    peer: HttpPeer, no_way_back: None, brisk: None
) -> None:
    tokens = iter(["one", "two", "three", "four"])
    async with polling(peer, token=lambda: next(tokens)) as account:
        (await next_poll(peer)).refuse(401)
        again = await next_poll(peer)
        assert again.headers["Authorization"] == "Bearer four"
        assert again.query["since"] == HELD
        again.unchanged(100)
        await asyncio.wait_for(account.until_fresh(), 5)


@pytest.mark.parametrize("status_code", [400, 403, 422])
async def test_a_poll_that_is_refused_for_good_ends_the_client(
    peer: HttpPeer, no_way_back: None, status_code: int
) -> None:
    async with polling(peer) as account:
        changes = account.changes("status", "source")
        await anext(changes)
        (await next_poll(peer)).refuse(status_code)
        with pytest.raises(ConnectionRefused) as refused:
            await asyncio.wait_for(anext(changes), 5)
        assert refused.value.status == status_code


async def test_a_websocket_that_gets_through_later_takes_over_without_a_gap(
    peer: HttpPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "_FIRST_RETURN_SECONDS", 1.5)
    async with streaming(peer) as (account, stream):
        seen: list[str] = []
        watching = asyncio.ensure_future(collect(account, seen))
        peer.sockets = "served"
        socket = await asyncio.wait_for(peer.talking.get(), 5)
        assert socket.query == {"channels": "status", "since": HELD}
        assert account.transport == "sse"
        await stream.update(100, 101, {"status": {"total_syncs": 8}})
        await until(account, revision=101)
        stream.end()
        await socket.welcome(resumed=True)
        await eventually(lambda: account.transport == "websocket")
        # That node resumed from where the stream was when the socket was opened, so it is asked anew.
        await socket.update(100, 101, {"status": {"total_syncs": 8}})
        await socket.say(**snapshot(101, {"status": status(total_syncs=8)}))
        await asyncio.wait_for(account.until_fresh(), 5)
        watching.cancel()
        assert "blind" not in seen


async def collect(account: Account, seen: list[str]) -> None:
    async for level in account.statuses():
        seen.append(level)  # noqa: PERF401 - read while it grows


async def test_a_websocket_that_stays_blocked_is_tried_less_and_less_often(
    peer: HttpPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "_FIRST_RETURN_SECONDS", 0.2)
    async with streaming(peer) as (account, _):
        await asyncio.sleep(2.5)
        assert account.transport == "sse"
        assert account.fresh
    # At first, and 0.2, 0.6 and 1.8 s after one another.
    assert 3 <= peer.handshakes <= 4


async def test_only_the_transports_that_were_chosen_are_used(peer: HttpPeer) -> None:
    async def answer() -> None:
        (await peer.polling.get()).frame(snapshot(100, STATE))

    answering = asyncio.ensure_future(answer())
    async with connect(peer.url, token="t", channels=["status"], transports=["poll"]) as account:
        assert account.transport == "poll"
    await answering
    assert peer.handshakes == 0
    assert peer.streaming.empty()

"""Where WebSockets do not get through: the event stream, and the way back."""

from __future__ import annotations

import asyncio
import time

import pytest

from guardwire import Account, ConnectionRefused, connect
from tests.client.http_peer import HttpPeer, next_stream, snapshot, streaming
from tests.client.states import guards, status
from tests.client.waiting import eventually, until

STATE = {"status": status()}
HELD = "8:100"


async def test_a_websocket_that_is_denied_falls_back_to_an_event_stream(
    http_peer: HttpPeer, no_way_back: None
) -> None:
    async with streaming(http_peer) as (account, stream):
        assert stream.headers["Authorization"] == "Bearer t0k3n"
        assert stream.query == {"channels": "status"}
        assert account.transport == "sse"
        await stream.update(100, 101, {"status": {"total_syncs": 8}})
        await until(account, revision=101)
        assert account.fresh
    assert http_peer.handshakes == 1


async def test_a_websocket_that_swallows_frames_falls_back_after_two_tries(
    http_peer: HttpPeer, no_way_back: None
) -> None:
    http_peer.shorten(first_frame_seconds=0.5)
    http_peer.sockets = "silent"
    async with streaming(http_peer) as (account, _):
        assert account.transport == "sse"
    assert http_peer.handshakes == 2


async def test_an_event_stream_resumes_by_its_last_event(http_peer: HttpPeer, no_way_back: None) -> None:
    async with streaming(http_peer) as (account, stream):
        await stream.heartbeat(100, 104)
        await until(account, revision=104)
        stream.end()
        again = await next_stream(http_peer)
        assert again.headers["Last-Event-ID"] == "8:104"
        await again.welcome(resumed=True)
        await again.update(104, 105, {"status": {"total_syncs": 8}})
        await until(account, revision=105)


async def test_events_may_come_in_any_pieces_and_with_any_line_ends(
    http_peer: HttpPeer, no_way_back: None
) -> None:
    async with streaming(http_peer) as (account, stream):
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
    http_peer: HttpPeer, no_way_back: None
) -> None:
    async with streaming(http_peer) as (account, stream):
        await stream.update(103, 104, {})
        again = await next_stream(http_peer)
        assert "Last-Event-ID" not in again.headers
        assert account.revision == 100
        assert not account.fresh
        await again.begin(104, {"status": status(total_syncs=9)})
        await until(account, revision=104)
        assert account.fresh


async def test_a_token_that_ends_is_replaced_by_another_event_stream(
    http_peer: HttpPeer, no_way_back: None
) -> None:
    tokens = iter(["one", "two", "three", "four"])
    async with streaming(http_peer, token=lambda: next(tokens)) as (account, stream):
        assert stream.headers["Authorization"] == "Bearer two"
        await stream.say(type="auth_required", expires_at=1_700_000_000)
        again = await next_stream(http_peer)
        assert again.headers["Authorization"] == "Bearer three"
        assert again.headers["Last-Event-ID"] == HELD
        await again.welcome(resumed=True)
        await again.heartbeat(100, 101)
        await asyncio.wait_for(account.until_fresh(), 5)


async def test_an_error_as_the_last_frame_of_an_event_stream_can_be_final(
    http_peer: HttpPeer, no_way_back: None
) -> None:
    async with streaming(http_peer) as (account, stream):
        changes = account.changes("status", "source")
        await anext(changes)
        await stream.say(type="error", code="revoked", message="access has been revoked", retry=False)
        stream.end()
        with pytest.raises(ConnectionRefused, match="access has been revoked") as refused:
            await asyncio.wait_for(anext(changes), 5)
        assert refused.value.status == 4403


async def test_after_the_hint_of_a_draining_node_another_link_is_opened(
    http_peer: HttpPeer, no_way_back: None
) -> None:
    async with streaming(http_peer) as (account, stream):
        hint = {"retry": True, "retry_after_ms": 700}
        await stream.say(type="error", code="draining", message="the server is restarting", **hint)
        stream.end()
        left_at = time.monotonic()
        again = await next_stream(http_peer)
        assert time.monotonic() - left_at >= 0.6, "it was asked to wait"
        await again.welcome(resumed=True)
        await again.heartbeat(100, 101)
        await asyncio.wait_for(account.until_fresh(), 5)


async def test_other_channels_open_another_event_stream(http_peer: HttpPeer, no_way_back: None) -> None:
    async with streaming(http_peer) as (account, _):
        adding = asyncio.ensure_future(account.subscribe("guards"))
        again = await next_stream(http_peer)
        assert again.query == {"channels": "status,guards"}
        assert "Last-Event-ID" not in again.headers
        await again.begin(101, {"status": status(), "guards": guards()})
        await asyncio.wait_for(adding, 5)
        assert account.state.guards is not None


async def test_a_websocket_that_gets_through_later_takes_over_without_a_gap(http_peer: HttpPeer) -> None:
    http_peer.shorten(first_return_seconds=1.5)
    async with streaming(http_peer) as (account, stream):
        seen: list[str] = []
        watching = asyncio.ensure_future(collect(account, seen))
        http_peer.sockets = "served"
        socket = await asyncio.wait_for(http_peer.talking.get(), 5)
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


async def test_a_websocket_that_stays_blocked_is_tried_less_and_less_often(http_peer: HttpPeer) -> None:
    http_peer.shorten(first_return_seconds=0.2)
    async with streaming(http_peer) as (account, _):
        await asyncio.sleep(2.5)
        assert account.transport == "sse"
        assert account.fresh
    # At first, and 0.2, 0.6 and 1.8 s after one another.
    assert 3 <= http_peer.handshakes <= 4


async def test_only_the_transports_that_were_chosen_are_used(http_peer: HttpPeer) -> None:
    async def answer() -> None:
        (await http_peer.polling.get()).frame(snapshot(100, STATE))

    answering = asyncio.ensure_future(answer())
    async with connect(http_peer.url, token="t", channels=["status"], transports=["poll"]) as account:
        assert account.transport == "poll"
    await answering
    assert http_peer.handshakes == 0
    assert http_peer.streaming.empty()

"""A bot follows an account while the connection holds."""

from __future__ import annotations

import asyncio

import pytest

from guardwire import Change, StaleState, connect
from guardwire.account import ChangeIterator
from tests.client.peer import Peer, opening
from tests.client.states import breach, guards, position, positions, status, whole
from tests.client.waiting import until


async def take(changes: ChangeIterator, count: int) -> list[Change]:
    async with asyncio.timeout(5):
        return [await anext(changes) for _ in range(count)]


async def test_connect_returns_with_the_first_state(peer: Peer) -> None:
    answered = opening(peer, whole())
    async with connect(peer.url, token="t0k3n") as account:
        visit = await answered
        assert visit.headers["Authorization"] == "Bearer t0k3n"
        assert "t0k3n" not in visit.path
        assert account.revision == 100
        assert account.epoch == 8
        assert account.state.positions is not None
        assert account.state.positions.open["11"].symbol == "EURUSD"
        assert account.raw == whole()
        assert account.status == "connected"
        assert account.fresh
        assert account.transport == "websocket"
    await visit.left()
    assert visit.connection.close_code == 1000


async def test_channels_that_were_not_chosen_are_none(peer: Peer) -> None:
    answered = opening(peer, {"guards": guards()})
    async with connect(peer.url, token="t", channels=["guards"]) as account:
        assert (await answered).path == "/ws?channels=guards"
        assert account.state.positions is None
        assert account.state.guards is not None


async def test_a_path_that_is_no_channel_is_refused_with_the_right_spelling(peer: Peer) -> None:
    answered = opening(peer, whole())
    async with connect(peer.url, token="t") as account:
        await answered
        with pytest.raises(ValueError, match=r"'position' is not one of the channels .*alerts$"):
            account.changes("position")
        with pytest.raises(ValueError, match=r"write changes\('positions', 'open'\)"):
            account.changes("positions.open")


async def test_the_first_changes_are_the_present_state(peer: Peer) -> None:
    answered = opening(peer, {"guards": guards(b1=breach()), "positions": positions(t11=position())})
    async with connect(peer.url, token="t", channels=["guards", "positions"]) as account:
        visit = await answered
        changes = account.changes("positions")
        assert await take(changes, 2) == [
            Change(("positions", "total_positions"), 1, None, "positions", 100),
            Change(("positions", "open", "11"), position(), None, "positions", 100),
        ]
        await visit.update(
            100, 101, {"positions": {"open": {"11": {"current_price": 1.2, "stop_loss": 1.0}}}}
        )
        assert await take(changes, 2) == [
            Change(("positions", "open", "11", "current_price"), 1.2, 1.1, "positions", 101),
            Change(("positions", "open", "11", "stop_loss"), 1.0, None, "positions", 101),
        ]
        await visit.update(101, 102, {"guards": {"breaches": {"b2": breach()}}})
        await visit.update(102, 103, {"positions": {"total_positions": 0, "open": {"11": None}}})
        gone = {**position(), "current_price": 1.2, "stop_loss": 1.0}
        assert await take(changes, 2) == [
            Change(("positions", "total_positions"), 0, 1, "positions", 103),
            Change(("positions", "open", "11"), None, gone, "positions", 103),
        ]


async def test_a_part_of_a_channel_can_be_followed_alone(peer: Peer) -> None:
    answered = opening(peer, {"guards": guards(b1=breach())})
    async with connect(peer.url, token="t", channels=["guards"]) as account:
        visit = await answered
        changes = account.changes("guards", "breaches")
        assert (await take(changes, 1))[0].path == ("guards", "breaches", "b1")
        await visit.update(100, 101, {"guards": {"any_positions_should_close": True}})
        await visit.update(
            101, 102, {"guards": {"breaches": {"b1": {"cleared_at": "2026-01-05T09:01:00.000000Z"}}}}
        )
        assert (await take(changes, 1))[0].path == ("guards", "breaches", "b1", "cleared_at")


async def test_a_slow_reader_gets_one_difference_and_no_queue(peer: Peer) -> None:
    answered = opening(peer, {"positions": positions(t11=position(current_price=0.0))})
    async with connect(peer.url, token="t", channels=["positions"]) as account:
        visit = await answered
        changes = account.changes("positions", "open")
        await take(changes, 1)
        for step in range(500):
            price = {"11": {"current_price": step + 1.0}}
            await visit.update(100 + step, 101 + step, {"positions": {"open": price}})
        await until(account, revision=600)
        assert await take(changes, 1) == [
            Change(("positions", "open", "11", "current_price"), 500.0, 0.0, "positions", 600)
        ]
        await visit.update(600, 601, {"positions": {"open": {"11": {"volume": 2.0}}}})
        assert (await take(changes, 1))[0].new == 2.0


async def test_a_record_that_was_replaced_between_two_reads_shows_its_lost_fields(peer: Peer) -> None:
    answered = opening(peer, {"positions": positions(t11=position(stop_loss=1.0))})
    async with connect(peer.url, token="t", channels=["positions"]) as account:
        visit = await answered
        changes = account.changes("positions", "open")
        await take(changes, 1)
        await visit.update(100, 101, {"positions": {"open": {"11": None}}})
        await visit.update(101, 102, {"positions": {"open": {"11": position()}}})
        await until(account, revision=102)
        assert await take(changes, 1) == [
            Change(("positions", "open", "11", "stop_loss"), None, 1.0, "positions", 102)
        ]


async def test_each_of_several_readers_sees_every_change(peer: Peer) -> None:
    answered = opening(peer, whole())
    async with connect(peer.url, token="t") as account:
        visit = await answered
        early, late = account.changes("status"), account.changes("status")
        first = await take(early, 6)
        await visit.update(100, 101, {"status": {"total_syncs": 8}})
        assert [change.new for change in await take(early, 1)] == [8]
        seen = {change.path: change.new for change in await take(late, 6)}
        assert seen == {**{change.path: change.new for change in first}, ("status", "total_syncs"): 8}


async def test_cancelling_a_reader_loses_no_change(peer: Peer) -> None:
    answered = opening(peer, {"status": status()})
    async with connect(peer.url, token="t", channels=["status"]) as account:
        visit = await answered
        changes = account.changes("status")
        await take(changes, 6)
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await visit.update(100, 101, {"status": {"total_syncs": 8}})
        assert (await take(changes, 1))[0].new == 8


async def test_readers_end_when_the_account_is_closed(peer: Peer) -> None:
    opening(peer, {"status": status()})
    async with connect(peer.url, token="t", channels=["status"]) as account:
        changes, statuses = account.changes("status"), account.statuses()
        await take(changes, 6)
        assert await anext(statuses) == "connected"
    assert [change async for change in changes] == []
    assert [status async for status in statuses] == ["blind"]
    assert not account.fresh
    with pytest.raises(StaleState, match="closed"):
        account.require_fresh()


async def test_a_bot_may_change_its_copy_of_the_state(peer: Peer) -> None:
    answered = opening(peer, whole())
    async with connect(peer.url, token="t") as account:
        visit = await answered
        account.raw["positions"]["open"].clear()
        for change in await take(account.changes("positions", "open"), 1):
            change.new.clear()
        assert account.raw == whole()
        await visit.update(100, 101, {"status": {"total_syncs": 8}})
        await until(account, revision=101)
        assert account.raw == whole(status=status(total_syncs=8))


async def test_the_typed_state_of_a_channel_that_did_not_change_is_the_same_object(peer: Peer) -> None:
    answered = opening(peer, whole())
    async with connect(peer.url, token="t") as account:
        visit, before = await answered, account.state
        await visit.update(100, 101, {"status": {"total_syncs": 8}})
        await until(account, revision=101)
        assert account.state.guards is before.guards
        assert account.state.status is not before.status


async def test_channels_come_and_go_on_a_live_account(peer: Peer) -> None:
    answered = opening(peer, {"guards": guards()})
    async with connect(peer.url, token="t", channels=["guards"]) as account:
        visit = await answered
        adding = asyncio.ensure_future(account.subscribe("status"))
        assert await visit.heard() == {"type": "subscribe", "channels": ["status"]}
        await visit.update(100, 100, {"status": status()})
        await asyncio.wait_for(adding, 5)
        assert account.state.status is not None
        dropping = asyncio.ensure_future(account.unsubscribe("guards"))
        assert await visit.heard() == {"type": "unsubscribe", "channels": ["guards"]}
        await visit.update(100, 100, {"guards": None})
        await asyncio.wait_for(dropping, 5)
        assert account.state.guards is None
        assert account.channels == ("status",)
        with pytest.raises(ValueError, match="channels must be"):
            await account.unsubscribe("status")


async def test_a_frame_of_a_later_release_is_skipped(peer: Peer) -> None:
    answered = opening(peer, {"status": status()})
    async with connect(peer.url, token="t", channels=["status"]) as account:
        visit = await answered
        await visit.say(type="weather", sunny=True)
        await visit.update(100, 101, {"status": {"total_syncs": 8, "mood": "fine"}})
        await until(account, revision=101)
        assert account.state.status is not None
        assert account.state.status.total_syncs == 8


@pytest.mark.parametrize(
    "url",
    ["ftp://host", "ws://", "host:80", "ws://host/ws?token=x", "ws://user:secret@host/ws", "ws://host/#x"],
)
async def test_a_url_that_cannot_be_right_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="the URL m"):
        async with connect(url, token="t"):
            pass


async def test_unknown_channels_and_malformed_tokens_are_refused_at_once(peer: Peer) -> None:
    with pytest.raises(ValueError, match="channels must be"):
        async with connect(peer.url, token="t", channels=["weather"]):
            pass
    with pytest.raises(ValueError, match="characters that no token has"):
        async with connect(peer.url, token="one\r\nX-Injected: two"):
            pass
    assert peer.tokens == []


async def test_an_error_of_the_bot_is_raised_and_closes_the_connection(peer: Peer) -> None:
    answered = opening(peer, {"status": status()})

    async def fail() -> None:
        async with connect(peer.url, token="t", channels=["status"]):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    await asyncio.wait_for((await answered).left(), 5)

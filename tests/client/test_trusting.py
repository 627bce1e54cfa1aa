"""How far a bot may trust what it holds: age, staleness, and the time of the database."""

from __future__ import annotations

import asyncio

import pytest

from guardwire import StaleState, connect
from tests.client.peer import Peer, opening
from tests.client.states import status
from tests.client.waiting import eventually, until


async def test_a_heartbeat_carries_revision_and_age(peer: Peer) -> None:
    answered = opening(peer, {"status": status()})
    async with connect(peer.url, token="t", channels=["status"]) as account:
        visit = await answered
        await visit.heartbeat(100, 120, age_ms=3000)
        await until(account, revision=120)
        assert account.age is not None
        assert 3.0 <= account.age < 4.0
        with pytest.raises(StaleState, match=r"over the limit of 2 s") as stale:
            account.require_fresh(max_age_seconds=2)
        assert stale.value.age_seconds == pytest.approx(3.0, abs=1.0)
        account.require_fresh(max_age_seconds=5)
        await visit.update(120, 121, {"status": {"total_syncs": 8}})
        await until(account, revision=121)
        account.require_fresh(max_age_seconds=2)


async def test_a_stale_heartbeat_makes_the_state_stale_until_the_next_good_one(peer: Peer) -> None:
    answered = opening(peer, {"status": status()})
    async with connect(peer.url, token="t", channels=["status"]) as account:
        visit, statuses = await answered, account.statuses()
        assert await anext(statuses) == "connected"
        await visit.heartbeat(100, 100, age_ms=2500, stale=True)
        assert await asyncio.wait_for(anext(statuses), 5) == "stale"
        assert not account.fresh
        with pytest.raises(StaleState):
            account.require_fresh(max_age_seconds=1000)
        waiting = asyncio.ensure_future(account.until_fresh())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await visit.heartbeat(100, 100)
        await asyncio.wait_for(waiting, 5)
        assert await asyncio.wait_for(anext(statuses), 5) == "connected"


async def test_the_time_of_the_database_needs_no_clock_of_this_machine(peer: Peer) -> None:
    answered = opening(peer, {"status": status()})
    async with connect(peer.url, token="t", channels=["status"]) as account:
        visit = await answered
        await visit.heartbeat(100, 101, age_ms=90_000)
        await until(account, revision=101)
        # The read was at 09:00:00, ninety seconds ago.
        left = account.seconds_until("2026-01-05T09:02:00.000000Z")
        assert left == pytest.approx(30, abs=1)


async def test_fresh_states_gives_a_state_again_after_it_was_refused_as_stale(peer: Peer) -> None:
    answered = opening(peer, {"status": status()})
    async with connect(peer.url, token="t", channels=["status"]) as account:
        visit, states = await answered, account.fresh_states()
        first = await anext(states)
        assert first is account.state
        waiting = asyncio.ensure_future(anext(states))
        await visit.heartbeat(100, 101)
        await until(account, revision=101)
        assert not waiting.done()
        await visit.update(101, 102, {"status": {"total_syncs": 8}})
        assert await asyncio.wait_for(waiting, 5) is account.state
        # While the bot acts the server goes blind; the bot notices, and asks for another state.
        await visit.heartbeat(102, 102, stale=True)
        await eventually(lambda: not account.fresh)
        waiting = asyncio.ensure_future(anext(states))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await visit.heartbeat(102, 102)
        assert await asyncio.wait_for(waiting, 5) is account.state
    with pytest.raises(StopAsyncIteration):
        await anext(states)

"""A client that the server asks to move to another node: it goes over without a moment of doubt, or stays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from guardwire import Account, connect
from tests.client.peer import Peer, Visit, denial, opening
from tests.client.states import whole
from tests.client.waiting import until

MOVE: dict[str, Any] = {"type": "move", "within_ms": 50}


@contextlib.asynccontextmanager
async def followed(peer: Peer) -> AsyncIterator[tuple[Account, Visit, set[str]]]:
    """A client with its first state, its connection, and each status of it since then."""
    answered = opening(peer, whole())
    told: set[str] = set()

    async def watch(account: Account) -> None:
        async for status in account.statuses():
            told.add(str(status))

    async with connect(peer.url, token="t", transports=["websocket"]) as account:
        watching = asyncio.create_task(watch(account))
        try:
            yield account, await answered, told
        finally:
            watching.cancel()
            await asyncio.wait([watching])


async def test_a_second_connection_takes_over_once_it_has_resumed(peer: Peer) -> None:
    async with followed(peer) as (account, first, told):
        await first.say(**MOVE)
        second = await peer.visit()
        assert "since=8%3A100" in second.path or "since=8:100" in second.path
        assert account.status == "connected"
        await second.welcome(resumed=True)
        await first.left()
        await second.update(100, 101, {"status": {"total_syncs": 8}})
        await until(account, revision=101)
        assert told <= {"connected"}


async def test_what_comes_on_the_first_meanwhile_is_not_lost_and_the_move_is_tried_again(peer: Peer) -> None:
    async with followed(peer) as (account, first, told):
        await first.say(**MOVE)
        second = await peer.visit()
        await first.update(100, 101, {"status": {"total_syncs": 8}})
        await until(account, revision=101)
        await second.welcome(resumed=True)
        await second.left()
        third = await peer.visit()
        await third.welcome(resumed=True)
        await first.left()
        await third.update(101, 102, {"status": {"total_syncs": 9}})
        await until(account, revision=102)
        assert told <= {"connected"}


async def test_a_token_that_cannot_be_had_ends_nothing(peer: Peer) -> None:
    answered = opening(peer, whole())
    tokens = ["t"]
    async with connect(peer.url, token=tokens.pop, transports=["websocket"]) as account:
        first = await answered
        await first.say(type="move", within_ms=1000)
        await first.update(100, 101, {"status": {"total_syncs": 8}})
        await until(account, revision=101)
        # The client tries five times, and the first attempt may have failed by now.
        tokens += ["t"] * 5
        await (await peer.visit()).welcome(resumed=True)
        await first.left()
        assert account.status == "connected"


async def test_where_nobody_takes_it_a_client_stays_where_it_is(peer: Peer) -> None:
    async with followed(peer) as (account, first, told):
        peer.deny = denial(429)
        asked = len(peer.tokens)
        await first.say(**MOVE)
        async with asyncio.timeout(10):
            while len(peer.tokens) < asked + 5:
                await asyncio.sleep(0.01)
        await first.update(100, 101, {"status": {"total_syncs": 8}})
        await until(account, revision=101)
        peer.deny = lambda request: None
        # A later move is a new one.
        await first.say(**MOVE)
        await (await peer.visit()).welcome(resumed=True)
        await first.left()
        assert told <= {"connected"}

"""A bot between two nodes that share PostgreSQL and Redis ends with the right state after many kinds of trouble."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from auth.development import DevelopmentKey
from auth.identity import Identity
from guardwire import Account, connect
from guardwire.link import TransportName
from guardwire.state import CHANNELS
from guardwire.timing import Timing
from realtime.delivery.server import handover
from realtime.delivery.stream import Outputs, Stream
from realtime.delivery.websocket.connection import Socket
from tests.client.balancer import Balancer
from tests.client.waiting import eventually
from tests.end_to_end import tables
from tests.end_to_end.node import Node, node
from tests.end_to_end.ordinary import equity, row

STEPS = 80
#: Positions that move at once while nobody reads.
CROWDED = 60

#: The steps of a run; one is drawn as often as it stands here.
KINDS = (
    "cut", "another node", "channels", "channels", "slow reader", "fresh token", "fresh token",
    "equity", "close",
    "sync", "sync", "sync", "sync", "sync",
)  # fmt: skip


class Adventure:
    """One seeded run: rows, lost links, other nodes and channels, short tokens, a reader that dawdles."""

    def __init__(self, seed: int, *, platform: Any, balancer: Balancer, nodes: tuple[Node, Node]) -> None:
        self.user_id = uuid4()
        #: Every (epoch, revision) that the reader saw, in order.
        self.places: list[tuple[int, int]] = []
        self.happened: Counter[str] = Counter()
        self._dice = random.Random(seed)
        self._platform = platform
        self._balancer = balancer
        self._nodes = nodes

    def token(self) -> str:
        """Sometimes one that the server wants renewed at once."""
        return self._nodes[0].key.issue(self.user_id, ttl_seconds=self._dice.choice([30, 3600]))

    async def step(self, account: Account) -> None:
        kind = self._dice.choice(KINDS)
        self.happened[kind] += 1
        match kind:
            case "cut":
                _cut(account)
            case "another node":
                (self._balancer.target,) = {node.url for node in self._nodes} - {self._balancer.target}
                _cut(account)
            case "channels":
                chosen = self._dice.sample(CHANNELS, self._dice.randint(1, 3))
                account._connection.choose(tuple(sorted(chosen, key=CHANNELS.index)))
            case "slow reader":
                await self._read_slowly()
            case "fresh token":
                # As when the server asks for it, which links that live for a second seldom see.
                link = account._connection.link
                if link is not None:
                    await account._connection._renew_token(link)
            case "equity":
                await tables.insert(self._platform, equity(self.user_id, self._dice.randint(6_000, 12_000)))
            case "close":
                closed = {"event_type": "close", "close_reason": "by hand"}
                await tables.insert(self._platform, row(self.user_id, ticket=self._ticket(), **closed))
            case _:
                await tables.insert(self._platform, *(self._sync() for _ in range(self._dice.randint(1, 3))))
        await asyncio.sleep(self._dice.choice([0, 0.01, 0.05, 0.1]))

    async def _read_slowly(self) -> None:
        """Nothing reaches the client for a moment in which much changes."""
        self._balancer.passing.clear()
        for _ in range(4):
            price = f"{self._dice.uniform(1900, 2000):.2f}"
            moved = (row(self.user_id, price, ticket=100 + number) for number in range(CROWDED))
            await tables.insert(self._platform, *moved)
            await asyncio.sleep(0.02)
        self._balancer.passing.set()

    async def read(self, account: Account) -> None:
        async for change in account.changes():
            self.places.append((account.epoch, change.revision))
            if len(self.places) % 5 == 0:
                await asyncio.sleep(0.02)

    def _sync(self) -> Any:
        price = f"{self._dice.uniform(1900, 2000):.2f}"
        stop = self._dice.choice([None, Decimal("1890.5")])
        return row(
            self.user_id, price, ticket=self._ticket(), stop_loss=stop, matched=self._dice.choice([1, 1, 2])
        )

    def _ticket(self) -> int:
        return self._dice.randint(1, 4)


def _cut(account: Account) -> None:
    if account._connection.link is not None:
        account._connection.link.abort()


class Witness:
    """How often a server could not write to a WebSocket, and how often one brought a fresh token."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blocked = self.renewed = 0
        pause, renew = Socket.pause_writing, Stream.renew

        def pausing(socket: Socket) -> None:
            self.blocked += 1
            pause(socket)

        def renewing(stream: Stream, newer: Identity, now: float) -> Outputs:
            self.renewed += 1
            return renew(stream, newer, now)

        monkeypatch.setattr(Socket, "pause_writing", pausing)
        monkeypatch.setattr(Stream, "renew", renewing)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("transport", "seed"),
    [("websocket", 1), ("websocket", 2), ("sse", 3), ("poll", 4)],
    ids=lambda value: str(value),
)
async def test_after_any_trouble_the_bot_holds_what_a_fresh_query_gives(
    migrated_url: str,
    redis_url: str,
    transport: TransportName,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that little is enough to fill them.
    monkeypatch.setattr(handover, "_PROCESS_BYTES", 4_096)
    monkeypatch.setattr(handover, "_SEND_BYTES", 4_096)
    # Links are cut here very often, and growing delays would only make the test long.
    timing = Timing(poll_round_seconds=0.05, proven_seconds=0.0)
    witnessed = Witness(monkeypatch)
    key, balancer = DevelopmentKey(secrets.token_hex(32)), Balancer()
    platform = await asyncpg.connect(migrated_url)
    async with (
        node(migrated_url, redis_url, key=key) as first,
        node(migrated_url, redis_url, key=key) as second,
        balancer.listening(),
    ):
        balancer.target = first.url
        adventure = Adventure(seed, platform=platform, balancer=balancer, nodes=(first, second))
        options: dict[str, Any] = {"token": adventure.token, "transports": [transport], "timing": timing}
        async with connect(balancer.url, **options) as account:
            reading = asyncio.create_task(adventure.read(account))
            for _ in range(STEPS):
                await adventure.step(account)
            account._connection.choose(CHANNELS)
            await asyncio.wait_for(agrees(account, (first, second), adventure.user_id), 60)
            await asyncio.wait_for(account.until_fresh(), 30)
            reading.cancel()
    await platform.close()
    assert adventure.places == sorted(adventure.places)
    # A run in which the reader saw next to nothing would prove nothing.
    assert len(set(adventure.places)) >= 5
    assert adventure.happened.keys() == set(KINDS)
    if transport == "websocket":
        assert witnessed.blocked
        assert witnessed.renewed


async def agrees(account: Account, nodes: tuple[Node, Node], user_id: UUID) -> None:
    """Until the bot holds what both nodes answer to a fresh query."""
    for each in nodes:
        frame: dict[str, Any] = {}
        while frame.get("state") != account.raw or frame["revision"] != account.revision:
            await asyncio.sleep(0.02)
            frame = await each.get(f"/api/v1/state?channels={','.join(CHANNELS)}", user_id)
    await eventually(lambda: account.status == "connected")

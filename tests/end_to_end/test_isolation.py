"""No frame ever carries data of another user, for any rows and any clients."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from random import Random
from typing import Any, Final
from uuid import UUID

import asyncpg

from tests.end_to_end import tables
from tests.end_to_end.marks import Marks, Owner
from tests.end_to_end.mirror import Mirror, mirror
from tests.end_to_end.node import Node, node

USERS: Final = 40
SOCKETS: Final = 2
COMMITS: Final = 150


def owners(random: Random) -> list[Owner]:
    """Users in pairs whose ids differ in one character; every fourth pair shares its tickets."""
    found = []
    for pair in range(USERS // 2):
        digits = f"{random.getrandbits(128):032x}"
        for half in range(2):
            number = 2 * pair + half
            shared = pair % 4 == 0
            first = 1_000 * (pair if shared else 100 + number)
            user_id = UUID(digits[:-1] + f"{(int(digits[-1], 16) + half) % 16:x}")
            found.append(Owner(number, user_id, tuple(range(first + 1, first + 6))))
    return found


async def test_forty_users_at_once_see_their_own_rows_alone(migrated_url: str, redis_url: str) -> None:
    random = Random(20)
    people, marks = owners(random), Marks(random)
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(node(migrated_url, redis_url, heartbeat_seconds=0.5))
        writers = [await asyncpg.connect(migrated_url) for _ in range(3)]
        stack.push_async_callback(_close, writers)
        mirrors = [
            (owner, await stack.enter_async_context(mirror(server.url, server.token(owner.user_id))))
            for owner in people
            for _ in range(SOCKETS)
        ]
        async with asyncio.TaskGroup() as group:
            for number, writer in enumerate(writers):
                group.create_task(_write(writer, people, marks, Random(number)))
            group.create_task(_fidget(mirrors, server, Random(7)))
        await _settle(mirrors, writers[0])
        for owner, account in mirrors:
            for received in account.frames:
                assert not (found := marks.foreign(owner, received.text)), (owner, found, received.text)
            # Without any frame, no foreign data could be found.
            assert any(owner.mark in received.text for received in account.frames), owner
        for owner in people:
            for path in ("status", "open", "guards"):
                answer = await server.get(_PATHS[path], owner.user_id)
                assert not (found := marks.foreign(owner, str(answer))), (owner, found)


_PATHS: Final = {
    "status": "/api/v1/reconciliation/status",
    "open": "/api/v1/positions/open",
    "guards": "/api/v1/guards/status",
}


async def _write(writer: Any, people: Sequence[Owner], marks: Marks, random: Random) -> None:
    """Commit rows of several users at once, in random order."""
    for _ in range(COMMITS // 3):
        async with writer.transaction():
            chosen = random.sample(people, random.randrange(1, 6))
            rows = [marks.log_row(owner) for owner in chosen for _ in range(random.randrange(1, 4))]
            await tables.LOG.insert(writer, rows)
            if random.random() < 0.5:
                await tables.EQUITY.insert(writer, [marks.equity_row(owner) for owner in chosen])
        await asyncio.sleep(random.random() * 0.02)


async def _fidget(mirrors: Sequence[tuple[Owner, Mirror]], server: Node, random: Random) -> None:
    """Subscribe, unsubscribe, resync and read over HTTP at random, slowly enough for the rate limits."""
    for _ in range(80):
        owner, account = random.choice(mirrors)
        kind = random.choice(["subscribe", "unsubscribe", "resync", "read"])
        if kind == "read":
            await server.get(_PATHS[random.choice(list(_PATHS))], owner.user_id)
        elif kind == "resync":
            await account.send({"type": "resync"})
        else:
            await account.send({"type": kind, "channels": [random.choice(["status", "positions", "guards"])]})
        await asyncio.sleep(0.01)


async def _settle(mirrors: Sequence[tuple[Owner, Mirror]], connection: Any) -> None:
    """Wait until every client has the newest revision."""
    revisions = dict(await connection.fetch("SELECT user_id, revision FROM guardwire.accounts"))
    for owner, account in mirrors:
        # A socket without channels learns of revisions from heartbeats alone.
        await account.until_revision(revisions[owner.user_id])


async def _close(connections: Sequence[Any]) -> None:
    for connection in connections:
        await connection.close()


def test_a_foreign_row_in_a_frame_would_be_found() -> None:
    random = Random(1)
    people, marks = owners(random), Marks(random)
    mine, other = people[:2]
    row = marks.log_row(other)
    for planted in (
        f'{{"symbol":"{row.symbol}"}}',
        f'{{"positions":{{"{row.id}":1}}}}',
        '{"current_equity":9500.01}',
    ):
        assert marks.foreign(mine, planted)
        assert not marks.foreign(other, planted)

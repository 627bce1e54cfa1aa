"""A steady flow of statements, and the time of each until a frame shows its effect."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg

from tests.benchmarks.platform import EQUITY_MOVE, FLOOR_MOVE, MOVE, POSITIONS, prices
from tests.benchmarks.sockets import Sockets

_WRITERS: Final = 8
_SHOWN_SECONDS: Final = 20.0
_PRICE: Final = re.compile(rb'"current_price":(\d+)')


class Seen:
    """Finds latencies by matching the prices in frames with the statements that wrote them.

    A frame with a later price covers the earlier ones of its account too, because they were conflated.
    """

    def __init__(self) -> None:
        self.latencies_seconds: list[float] = []
        self.commits = 0
        self.frames = 0
        self.frame_bytes = 0
        self._pending: defaultdict[UUID, deque[tuple[int, float]]] = defaultdict(deque)
        self._open = 0

    def written(self, user: UUID, price: int) -> None:
        """Note that the statement which makes ``price`` visible is about to be sent."""
        self._pending[user].append((price, time.perf_counter()))
        self._open += 1
        self.commits += 1

    def on_frame(self, user: UUID, payload: bytes, now: float) -> None:
        """Note the arrival of a frame."""
        found = _PRICE.findall(payload)
        if not found:
            return
        self.frames += 1
        self.frame_bytes += len(payload)
        shown, waiting = max(map(int, found)), self._pending[user]
        while waiting and waiting[0][0] <= shown:
            self.latencies_seconds.append(now - waiting.popleft()[1])
            self._open -= 1

    async def all_shown(self) -> None:
        """Wait until every statement was seen; raises TimeoutError."""
        async with asyncio.timeout(_SHOWN_SECONDS):
            while self._open:
                await asyncio.sleep(0.005)


#: Writes one price of one position over a connection. It calls its last argument just before it sends the statement
#: that makes the price visible to others.
Write = Callable[[Any, UUID, int, int, Callable[[], None]], Awaitable[Any]]


async def move(connection: Any, user: UUID, ticket: int, price: int, on_commit: Callable[[], None]) -> None:
    """Write a single row of the platform."""
    on_commit()
    await connection.execute(MOVE, user, ticket, price)


async def loop(connection: Any, user: UUID, _ticket: int, price: int, on_commit: Callable[[], None]) -> None:
    """Run the platform's reconciliation loop: one transaction, and a statement for each of its eleven rows."""
    await connection.execute("BEGIN")
    for ticket in range(1001, 1001 + POSITIONS):
        await connection.execute(MOVE, user, ticket, price)
    await connection.execute(EQUITY_MOVE, user, price)
    on_commit()
    await connection.execute("COMMIT")


async def hint(connection: Any, user: UUID, _ticket: int, price: int, on_commit: Callable[[], None]) -> None:
    """Send the floor's NOTIFY, without a row."""
    on_commit()
    await connection.execute(FLOOR_MOVE, user, price)


class Flow:
    """Writers that keep a rate, over open connections to the database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, database_url: str) -> Flow:
        """Connect."""
        return cls(await asyncpg.create_pool(database_url, min_size=_WRITERS, max_size=_WRITERS))

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()

    async def run(
        self,
        sockets: Sequence[Sockets],
        write: Write,
        users: Sequence[UUID],
        *,
        per_second: int,
        seconds: float,
    ) -> Seen:
        """Write for ``seconds``, then wait until ``sockets``, if there are any, have shown every change."""
        seen = Seen()
        for each in sockets:
            each.on_frame = seen.on_frame
        turns, end = itertools.count(), time.perf_counter() + seconds
        begun = time.perf_counter()

        async def writer() -> None:
            async with self._pool.acquire() as connection:
                while True:
                    turn = next(turns)
                    at = begun + turn / per_second
                    if at >= end:
                        return
                    await asyncio.sleep(max(0.0, at - time.perf_counter()))
                    user, price = users[turn % len(users)], next(prices)
                    ticket = 1001 + turn // len(users) % POSITIONS
                    await write(connection, user, ticket, price, partial(seen.written, user, price))

        await asyncio.gather(*(writer() for _ in range(_WRITERS)))
        if sockets:
            await seen.all_shown()
        return seen


def percentile_ms(latencies_seconds: Sequence[float], percent: float) -> float:
    """In milliseconds."""
    ordered = sorted(latencies_seconds)
    return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

"""Many bots at once, with their measurements: the delay of each change, and how long an old state passed for fresh."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from tests.faults.bot import Bot
from tests.faults.platform import Platform

_LOOK_SECONDS: Final = 0.05
#: A younger commit may still be on its way, so a client that does not show it is not misled.
_UNDER_WAY_SECONDS: Final = 0.25


@dataclass
class Crowd:
    """Bots that follow the accounts of ``platform``."""

    platform: Platform
    bots: Sequence[Bot]
    #: The longest time for which a bot took an old state for fresh.
    misled_seconds: float = 0.0
    #: For each change seconds from commit to sight, the moment of sight, and the address that it came from.
    latencies: list[tuple[float, float, str]] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _seen_at: dict[Bot, int] = field(default_factory=dict)
    _late_seconds: float = 0.0

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Run the bots while the context lasts."""
        bots, self.bots = self.bots, []
        self.join(bots)
        self._tasks.append(asyncio.create_task(self._watch(), name="watch"))
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def join(self, bots: Sequence[Bot]) -> None:
        """Add ``bots`` to the running ones."""
        self.bots = [*self.bots, *bots]
        for bot in bots:
            bot.on_serial = self._on_serial
            self._tasks.append(asyncio.create_task(bot.run(), name="bot"))

    async def until(self, condition: Callable[[Bot], bool], *, seconds: float) -> float:
        """Seconds until ``condition`` held for all bots at once; TimeoutError names those for which it did not."""
        began = time.monotonic()
        while not all(map(condition, self.bots)):
            for task in self._tasks:
                if task.done():
                    await task
            if time.monotonic() - began > seconds:
                left = [bot for bot in self.bots if not condition(bot)]
                raise TimeoutError(f"not within {seconds:g} s for {len(left)} bots, such as {left[0].owner}")
            await asyncio.sleep(_LOOK_SECONDS)
        return time.monotonic() - began

    async def until_all_fresh(self, *, seconds: float = 30.0) -> float:
        """Seconds until every bot is fresh."""
        return await self.until(lambda bot: bot.believes_fresh, seconds=seconds)

    async def until_all_at(self, revisions: dict[UUID, int], *, seconds: float) -> float:
        """Seconds until every bot is fresh at the last revision of its account, or a later one."""
        return await self.until(
            lambda bot: bot.believes_fresh and bot.revision >= revisions[bot.owner.user_id], seconds=seconds
        )

    def counted(self, what: str) -> Counter[str]:
        """The sum of the bots' counters ``ends`` or ``seen``."""
        total: Counter[str] = Counter()
        for bot in self.bots:
            total += getattr(bot, what)
        return total

    def on(self, address: str) -> list[Bot]:
        """The bots that are connected to ``address``."""
        return [bot for bot in self.bots if bot.connection is not None and bot.address == address]

    def latency_ms(self, share: float, *, since: float, by: Collection[str] = ()) -> float:
        """A percentile of the time from commit to sight, of all changes seen since ``since``; ``by`` selects the
        addresses.
        """
        found = sorted(
            each for each, at, address in self.latencies if at >= since and (not by or address in by)
        )
        return 1000 * found[min(len(found) - 1, int(share * len(found)))] if found else float("nan")

    def _on_serial(self, bot: Bot, serial: int, now: float) -> None:
        commits = self.platform.commits.get(bot.owner.number, [])
        place, fresh_from = self._seen_at.get(bot, 0), bot.fresh_from
        while place < len(commits) and commits[place][0] <= serial:
            # Only pushes to clients that were fresh at the commit count, because the others know that they wait.
            number, at = commits[place]
            if number == serial and fresh_from is not None and at >= fresh_from:
                self.latencies.append((max(0.0, now - at), now, bot.address))
            place += 1
        self._seen_at[bot] = place

    async def _watch(self) -> None:
        while True:
            began = time.monotonic()
            for bot in self.bots:
                self.misled_seconds = max(self.misled_seconds, self._misled(bot, began))
            await asyncio.sleep(_LOOK_SECONDS)
            # A busy loop of this process delays frames that have already arrived.
            self._late_seconds = max(0.0, time.monotonic() - began - 2 * _LOOK_SECONDS)

    def _misled(self, bot: Bot, now: float) -> float:
        if bot.fresh_from is None or self._late_seconds > 0:
            return 0.0
        commits = self.platform.commits.get(bot.owner.number, [])
        # Continue from the change that was shown last; a bot that went back to an older epoch starts again.
        place = self._seen_at.get(bot, 0)
        for serial, at in commits[place:]:
            if serial > bot.serial:
                misled = now - max(at, bot.fresh_from)
                return misled if misled > _UNDER_WAY_SECONDS else 0.0
        return 0.0

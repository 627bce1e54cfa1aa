"""One fault on stage: bots that follow accounts of their own, a platform that trades, and a judgement.

    async with performance(ground, Findings("a node is killed"), random=random, bots=200) as stage:
        code = await stage.sites[0].node.kill()
        stage.proves(f"the process ended with {code}", code == -9)

What every performance ends with: the platform has its final word, everybody has to learn of it in time, the
state of every bot is compared with the oracle's, and nothing may be left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from tests.faults import judge
from tests.faults.bot import BLIND_SECONDS, Bot
from tests.faults.crowd import Crowd
from tests.faults.findings import Figure, Findings
from tests.faults.ground import Ground, Site
from tests.faults.platform import Platform, SteadyMarks, people
from tests.faults.proxy import heal

_PER_SECOND: Final = 40.0
_FIRST_SECONDS: Final = 40.0


@dataclass
class Stage:
    """What a fault gets: where it happens, who watches, and where it says what it saw."""

    ground: Ground
    crowd: Crowd
    platform: Platform
    random: Random
    findings: Findings
    #: Everybody must be right again so soon after the fault has ended.
    right_again_seconds: float = BLIND_SECONDS
    #: For so long may a client take for fresh what is not.
    misled_seconds: float = BLIND_SECONDS
    #: Connections of a killed node are leased until they run out.
    leases_may_run_out: bool = False
    #: Where in `Ground.holders` those of this stage begin.
    first_holder: int = 0
    healed_at: float = field(default_factory=time.monotonic)
    _trading: asyncio.Task[None] | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def sites(self) -> list[Site]:
        return self.ground.sites

    @property
    def bots(self) -> Sequence[Bot]:
        return self.crowd.bots

    def proves(self, text: str, true: bool) -> None:
        """Something that is so because the fault bites."""
        self.findings.proofs.append((text, bool(true)))

    def figure(self, what: str, value: float, bound: float, unit: str = "s") -> None:
        """Something measured, and the most that is allowed."""
        self.findings.figures.append(Figure(what, value, bound, unit))

    def broken(self, text: str) -> None:
        """A promise was not kept."""
        self.findings.broken.append(text)

    def healed(self) -> None:
        """The fault is over; from now on everybody has `right_again_seconds`."""
        self.healed_at = time.monotonic()

    async def until(self, condition: Callable[[], Awaitable[bool]], *, seconds: float = 10.0) -> float:
        """Seconds until ``condition`` held; infinite when it did not in time."""
        began = time.monotonic()
        while not await condition():
            if time.monotonic() - began > seconds:
                return float("inf")
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def all_know(self, *, seconds: float, among: Sequence[Bot] | None = None) -> float:
        """Seconds until no bot (``among`` some) takes itself for fresh; infinite when some still does."""
        concerned = self.bots if among is None else among
        began = time.monotonic()
        doubts = [bot.doubts for bot in concerned]
        # Counted, because who finds another node at once is in doubt for a moment only.
        while any(
            bot.believes_fresh and bot.doubts == before for bot, before in zip(concerned, doubts, strict=True)
        ):
            if time.monotonic() - began > seconds:
                return float("inf")
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def watch(self, seconds: float) -> None:
        """Let time pass: bots and platform go on, and what they see is noted."""
        await asyncio.sleep(seconds)

    async def trade(self) -> None:
        """Let the platform trade from now on."""
        self._stop = asyncio.Event()
        trading = self.platform.trade(self._stop, per_second=_PER_SECOND)
        self._trading = asyncio.create_task(trading, name="trade")

    async def rest(self) -> None:
        """Let the platform end what it is at, and then nothing."""
        if self._trading is not None:
            self._stop.set()
            await self._trading
            self._trading = None


@contextlib.asynccontextmanager
async def performance(
    ground: Ground, findings: Findings, *, random: Random, bots: int, sites: Sequence[Site] | None = None
) -> AsyncIterator[Stage]:
    """A stage with ``bots`` that are all fresh, of accounts that nobody has seen before."""
    began, first_holder = time.monotonic(), len(ground.holders)
    marks = SteadyMarks(random)
    owners = people(bots, random)
    platform = Platform(ground.database_url, owners, marks, random)
    addresses = [site.address for site in sites or ground.sites]
    crowd = Crowd(platform, [Bot(owner, ground.token(owner), addresses, marks) for owner in owners])
    stage = Stage(ground, crowd, platform, random, findings, first_holder=first_holder)
    try:
        await platform.final_word()  # so that everybody has something to lose
        async with crowd.following():
            await crowd.until_all_fresh(seconds=_FIRST_SECONDS)
            await stage.trade()
            try:
                yield stage
            finally:
                heal(way for site in ground.sites for way in site.ways)
                await stage.rest()
            await judge.right_again(stage)
            await judge.states(stage)
            await judge.rows(stage)
        await judge.leaks(stage)
    except Exception as error:
        stage.broken(f"{type(error).__name__}: {error}")
    finally:
        await platform.close()
    judge.promises(stage)
    stage.findings.seconds = time.monotonic() - began

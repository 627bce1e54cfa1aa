"""One fault on stage: bots that follow accounts of their own, a platform that trades, and the checks at the end.

async with performance(ground, Findings("a node is killed"), random=random, bots=200) as stage:
    code = await stage.sites[0].node.kill()
    stage.proves(f"the process ended with {code}", code == -9)

Every performance ends with the same checks: the platform commits once more for each account, every client must show
this in time, the state of every bot is compared with the oracle's, and nothing may be left behind.
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
    """The surroundings of a fault: the servers, the bots, the platform, and the findings to report to."""

    ground: Ground
    crowd: Crowd
    platform: Platform
    random: Random
    findings: Findings
    #: Every client must be right again within this time after the end of the fault.
    right_again_seconds: float = BLIND_SECONDS
    #: The longest time for which a client may take an old state for fresh.
    misled_seconds: float = BLIND_SECONDS
    #: Connections of a killed node stay leased until their lease ends.
    leases_may_run_out: bool = False
    #: The index in `Ground.holders` at which those of this stage begin.
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
        """Report a proof that the fault takes effect."""
        self.findings.proofs.append((text, bool(true)))

    def figure(self, what: str, value: float, bound: float, unit: str = "s") -> None:
        """Report a figure, and its bound."""
        self.findings.figures.append(Figure(what, value, bound, unit))

    def broken(self, text: str) -> None:
        """Report a broken promise."""
        self.findings.broken.append(text)

    def healed(self) -> None:
        """Note the end of the fault; every client has `right_again_seconds` from now on."""
        self.healed_at = time.monotonic()

    async def until(self, condition: Callable[[], Awaitable[bool]], *, seconds: float = 10.0) -> float:
        """Seconds until ``condition`` held; infinite when it did not hold in time."""
        began = time.monotonic()
        while not await condition():
            if time.monotonic() - began > seconds:
                return float("inf")
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def all_know(self, *, seconds: float, among: Sequence[Bot] | None = None) -> float:
        """Seconds until no bot (among ``among``) takes its state for fresh; infinite when some still do."""
        concerned = self.bots if among is None else among
        began = time.monotonic()
        doubts = [bot.doubts for bot in concerned]
        # The counter shows also a bot that was in doubt for a moment, because it soon found another node.
        while any(
            bot.believes_fresh and bot.doubts == before for bot, before in zip(concerned, doubts, strict=True)
        ):
            if time.monotonic() - began > seconds:
                return float("inf")
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def watch(self, seconds: float) -> None:
        """Let time pass, while bots and platform go on."""
        await asyncio.sleep(seconds)

    async def trade(self) -> None:
        """Let the platform trade from now on."""
        self._stop = asyncio.Event()
        trading = self.platform.trade(self._stop, per_second=_PER_SECOND)
        self._trading = asyncio.create_task(trading, name="trade")

    async def rest(self) -> None:
        """Stop the platform after its present transaction."""
        if self._trading is not None:
            self._stop.set()
            await self._trading
            self._trading = None


@contextlib.asynccontextmanager
async def performance(
    ground: Ground, findings: Findings, *, random: Random, bots: int, sites: Sequence[Site] | None = None
) -> AsyncIterator[Stage]:
    """A stage with ``bots`` fresh clients of new accounts."""
    began, first_holder = time.monotonic(), len(ground.holders)
    marks = SteadyMarks(random)
    owners = people(bots, random)
    platform = Platform(ground.database_url, owners, marks, random)
    addresses = [site.address for site in sites or ground.sites]
    crowd = Crowd(platform, [Bot(owner, ground.token(owner), addresses, marks) for owner in owners])
    stage = Stage(ground, crowd, platform, random, findings, first_holder=first_holder)
    try:
        await platform.begin()  # every client then has a state that it could lose
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

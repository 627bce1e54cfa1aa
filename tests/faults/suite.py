"""The list of all faults, and how one of them is played."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.faults.findings import Findings
from tests.faults.ground import Ground
from tests.faults.scenarios import ALL
from tests.faults.stage import Stage, performance

__all__ = ["SCENARIOS", "Run", "Scenario"]


#: Of one fault, whatever hangs.
_LONGEST_SECONDS: Final = 180.0


@dataclass(frozen=True)
class Run:
    """On what, and how large."""

    ground: Ground
    seed: int
    bots: int


@dataclass(frozen=True)
class Scenario:
    """One fault; ``inject`` brings it about on a stage where all is well."""

    fault: str
    inject: Callable[[Stage], Awaitable[None]]
    short: bool = False

    async def play(self, run: Run) -> Findings:
        """Inject the fault and judge what came of it."""
        # Each fault draws from the seed by itself, so that one alone is what it was among all.
        draw, findings = f"{run.seed} {self.fault}", Findings(self.fault)
        random.seed(draw)  # the jitter of clients
        try:
            async with (
                asyncio.timeout(_LONGEST_SECONDS),
                performance(run.ground, findings, random=random.Random(draw), bots=run.bots) as stage,
            ):
                await self.inject(stage)
        except TimeoutError:
            findings.broken.append(f"it was not over after {_LONGEST_SECONDS:g} s")
        return findings


SCENARIOS: Final = [Scenario(*each) for each in ALL]

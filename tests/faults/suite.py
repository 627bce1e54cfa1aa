"""The list of all faults, and the run of one of them."""

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


#: For one fault, also when something hangs.
_LONGEST_SECONDS: Final = 400.0


@dataclass(frozen=True)
class Run:
    """The servers and the size of a run."""

    ground: Ground
    seed: int
    bots: int


@dataclass(frozen=True)
class Scenario:
    """One fault; ``inject`` causes it on a stage where everything works."""

    fault: str
    inject: Callable[[Stage], Awaitable[None]]
    short: bool = False

    async def play(self, run: Run) -> Findings:
        """Inject the fault, and run the checks."""
        # Each fault seeds its own generator, so that a single fault draws the same as in the whole run.
        draw, findings = f"{run.seed} {self.fault}", Findings(self.fault)
        random.seed(draw)  # for the jitter of clients
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

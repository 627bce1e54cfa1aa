"""The list of all faults, and how one of them is played."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.faults.findings import Findings
from tests.faults.ground import Ground
from tests.faults.scenarios import ALL
from tests.faults.stage import Stage, performance

__all__ = ["SCENARIOS", "Run", "Scenario"]


@dataclass(frozen=True)
class Run:
    """On what, and how large."""

    ground: Ground
    seed: int
    bots: int
    full: bool = False


@dataclass(frozen=True)
class Scenario:
    """One fault; ``inject`` brings it about on a stage where all is well."""

    fault: str
    inject: Callable[[Stage], Awaitable[None]]
    short: bool = False

    async def play(self, run: Run) -> Findings:
        """Inject the fault and judge what came of it."""
        # Each fault draws from the seed by itself, so that one alone is what it was among all.
        random = Random(f"{run.seed} {self.fault}")
        async with performance(run.ground, self.fault, random=random, bots=run.bots) as stage:
            stage.full = run.full
            await self.inject(stage)
        return stage.findings


SCENARIOS: Final = [Scenario(*each) for each in ALL]

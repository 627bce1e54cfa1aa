"""The faults that take a few seconds, with fewer clients; `make faults` injects all, with two hundred."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from realtime.embedded import EmbeddedServers
from tests.faults.findings import Figure, Findings
from tests.faults.ground import Ground, ground
from tests.faults.suite import SCENARIOS, Run, Scenario

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

_SEED = 20
_BOTS = 24


@dataclass(frozen=True)
class Place:
    """The servers that faults are injected into, and the event loop of their proxies."""

    runner: asyncio.Runner
    ground: Ground


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with EmbeddedServers.start() as servers, asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        made = runner.run(stack.enter_async_context(ground(servers, nodes=2)))
        try:
            yield Place(runner, made)
        finally:
            runner.run(stack.aclose())


@pytest.mark.parametrize("scenario", [each for each in SCENARIOS if each.short], ids=lambda each: each.fault)
def test_what_is_promised_holds_under_a_fault(place: Place, scenario: Scenario) -> None:
    findings = place.runner.run(scenario.play(Run(place.ground, seed=_SEED, bots=_BOTS)))
    assert findings.holds, "\n" + "\n".join(findings.lines())


def test_what_was_not_proven_or_not_measured_does_not_hold() -> None:
    proof, figure = ("it bites", True), Figure("wrong", 0, 0, "")
    assert Findings("good", [proof], [figure]).holds
    for bad in (
        Findings("no proof", [], [figure]),
        Findings("did not bite", [proof, ("nor this", False)], [figure]),
        Findings("no figure", [proof], []),
        Findings("too much", [proof], [figure, Figure("late", 1.1, 1, "s")]),
        Findings("not measured", [proof], [Figure("late", float("nan"), 1, "s")]),
        Findings("broken", [proof], [figure], ["it went back"]),
    ):
        assert not bad.holds, bad.fault
        assert bad.verdict != "held"

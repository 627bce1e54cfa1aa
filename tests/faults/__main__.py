"""Injects faults into running servers, and reports which promises held.

python -m tests.faults [--seed N] [--only WORD] [--bots N] [--write docs/faults.md]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from realtime.cli.process import allow_many_connections
from realtime.embedded import EmbeddedServers
from tests.faults import judge
from tests.faults.findings import Findings
from tests.faults.ground import ground
from tests.faults.report import document
from tests.faults.suite import SCENARIOS, Run, Scenario

_NODES: Final = 3
_BOTS: Final = 200


def main() -> int:
    """Run the selected faults; exit code 0 when all of them held."""
    asked = _arguments()
    seed: int = asked.seed if asked.seed is not None else random.randrange(1_000_000)
    chosen = [each for each in SCENARIOS if not asked.only or asked.only.lower() in each.fault.lower()]
    if not chosen:
        print(f"No fault has {asked.only!r} in its name.", file=sys.stderr)
        return 2
    print(f"seed {seed}: {len(chosen)} faults, {_NODES} nodes, {asked.bots} bots", flush=True)
    allow_many_connections()  # a client through a proxy takes three files of this process
    began = time.monotonic()
    with EmbeddedServers.start() as servers:
        found = asyncio.run(_run(servers, chosen, seed=seed, bots=asked.bots))
    seconds = time.monotonic() - began
    held = sum(each.holds for each in found)
    print(f"{held} of {len(found)} held, in {seconds:.0f} s; seed {seed}")
    if asked.write:
        asked.write.write_text(document(found, seed=seed, bots=asked.bots, nodes=_NODES, seconds=seconds))
    return 0 if held == len(found) else 1


async def _run(
    servers: EmbeddedServers, chosen: Sequence[Scenario], *, seed: int, bots: int
) -> list[Findings]:
    found = []
    async with ground(servers, nodes=_NODES) as made:
        for scenario in chosen:
            findings = await scenario.play(Run(made, seed=seed, bots=bots))
            _print(findings)
            found.append(findings)
        found.append(await judge.afterwards(made, faults=len(found)))
        _print(found[-1])
    return found


def _print(findings: Findings) -> None:
    print("\n".join(findings.lines()), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="of all that is drawn; printed")
    parser.add_argument("--only", default="", help="faults with this in their name")
    parser.add_argument("--bots", type=int, default=_BOTS, help="clients that follow accounts")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the results to FILE, as Markdown")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.benchmarks [--full] [--only NAME]`: measures, prints a table, and writes bench.json."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import uvloop

from realtime.embedded import EmbeddedServers
from tests.benchmarks.figure import Figure
from tests.benchmarks.figures import (
    alerts,
    attendance,
    changes,
    evaluation,
    graphql,
    idle,
    inbox,
    load,
    loop,
    nodes,
    peer,
    polling,
    push,
    region,
    relay,
    rest,
    size,
)
from tests.benchmarks.ground import FULL, QUICK, Ground, Scale, ground
from tests.benchmarks.report import save, table, write

Measure = Callable[[Ground], Awaitable[list[Figure]]]

FIGURES: Final[Mapping[str, Measure]] = {
    "loop": loop.measure,
    "disk": loop.measure_on_disk,
    "load": load.measure,
    "inbox": inbox.measure,
    "size": size.measure,
    "push": push.measure,
    "rest": rest.measure,
    "graphql": graphql.measure,
    "changes": changes.measure,
    "peer": peer.measure,
    "polling": polling.measure,
    "nodes": nodes.measure,
    "relay": relay.measure,
    "scaling": relay.measure_scaling,
    "followed": relay.measure_loops,
    "region": region.measure,
    "evaluation": evaluation.measure,
    "alerts": alerts.measure,
    "attendance": attendance.measure,
    "idle": idle.measure,
}


def main() -> int:
    """Measure the selected figures; 1 when a figure could not be measured."""
    arguments = _arguments()
    chosen = [name for name in FIGURES if not arguments.only or name in arguments.only]
    scale = FULL if arguments.full else QUICK
    with (
        EmbeddedServers.start(
            database_url=os.environ.get("DATABASE_URL", ""), redis_url=os.environ.get("REDIS_URL", "")
        ) as servers,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        conditions = _conditions(arguments.full)
        figures, failed, seconds = runner.run(_measure(servers, scale, chosen))
    conditions["seconds"] = seconds
    _say(
        ", ".join(f"{name} {taken} s" for name, taken in seconds.items())
        + f"; {sum(seconds.values())} s in all"
    )
    conditions["load_after"] = os.getloadavg()[0]
    sys.stdout.write(table(figures) + "\n")
    save(arguments.json, figures, conditions)
    if arguments.write:
        write(arguments.write, figures, conditions)
    return 1 if failed else 0


async def _measure(
    servers: EmbeddedServers, scale: Scale, names: list[str]
) -> tuple[list[Figure], list[str], dict[str, int]]:
    """The figures, the names of those that failed, and the seconds that each name took."""
    figures: list[Figure] = []
    failed = []
    seconds: dict[str, int] = {}
    async with ground(servers, scale) as prepared:
        for number, name in enumerate(names, 1):
            _say(f"[{number}/{len(names)}] {name} …")
            begun = time.monotonic()
            gc.collect()
            try:
                async with asyncio.timeout(scale.limit_seconds):
                    figures += await FIGURES[name](prepared)
            except Exception:
                # One failed figure does not invalidate the others.
                failed.append(name)
                traceback.print_exc()
            seconds[name] = round(time.monotonic() - begun)
            _say(f"[{number}/{len(names)}] {name}: {seconds[name]} s")
    return figures, failed, seconds


def _conditions(full: bool) -> dict[str, Any]:
    return {
        "scale": "full" if full else "quick",
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
        "system": platform.system(),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="10^6 log rows, 5,000 sockets, three nodes")
    parser.add_argument("--only", action="append", choices=FIGURES, help="may be repeated")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where to write the figures")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page, too")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

"""Minutes of trading with everything at once; no account may differ from its raw log.

python -m tests.faults.trading [--seconds N] [--seed N]

In the first half PostgreSQL may not prepare transactions, and the platform's rows wake the applier. In the second half
it may, and the applier polls. All the while writers of every kind write, the applier's node is killed, stopped, or
loses its backend, and `guardwire verify` compares every account with its log.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg

from queries.migrations.run import migrate
from realtime.cli.process import allow_many_connections
from realtime.embedded import EmbeddedServers
from tests.faults.findings import Findings
from tests.faults.ground import ground
from tests.faults.platform import people
from tests.faults.stage import Stage, performance
from tests.faults.traders import Traders, partition_log

_NODES: Final = 3
_BOTS: Final = 30
_OTHERS: Final = 40
#: Beyond the numbers of all bots.
_FIRST_NUMBER: Final = 300_000
_SECONDS: Final = 240.0
_PROGRESS_SECONDS: Final = 10.0
_VERIFY_EVERY_SECONDS: Final = 30.0
_VERIFY_SECONDS: Final = 300.0
_BREAK_EVERY_SECONDS: Final = 8.0
_STOPPED_SECONDS: Final = 4.0
_MOST_PREPARED: Final = 50
_ROOT: Final = Path(__file__).parents[2]


def main() -> int:
    """Trade for the given time; 0 when every check held."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.trading", description=__doc__)
    parser.add_argument("--seconds", type=float, default=_SECONDS)
    parser.add_argument("--seed", type=int, help="of all that is drawn; printed")
    asked = parser.parse_args()
    seed: int = asked.seed if asked.seed is not None else random.randrange(1_000_000)
    print(f"seed {seed}: {asked.seconds:g} s of trading, {_NODES} nodes, {_BOTS} bots", flush=True)
    allow_many_connections()
    with EmbeddedServers.start() as servers:
        findings = asyncio.run(_run(servers, asked.seconds, seed))
    print("\n".join(findings.lines()), flush=True)
    return 0 if findings.holds else 1


async def _run(servers: EmbeddedServers, seconds: float, seed: int) -> Findings:
    await migrate(servers.database_url)
    connection = await asyncpg.connect(servers.database_url)
    await partition_log(connection)
    await connection.close()
    findings, draw = Findings("trading with everything at once"), random.Random(seed)
    random.seed(seed)  # for the jitter of clients
    async with (
        ground(servers, nodes=_NODES) as made,
        performance(made, findings, random=draw, bots=_BOTS) as stage,
    ):
        await _Trading(stage).trade(seconds)
    return findings


@dataclass
class _Trading:
    """The writers, the faults and the verifications of one run, with their counts."""

    stage: Stage
    different: int = 0
    verified: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    async def trade(self, seconds: float) -> None:
        """Run both halves, and the final checks."""
        stage = self.stage
        stage.leases_may_run_out = True
        owners = people(_OTHERS, stage.random, first=_FIRST_NUMBER)
        traders = Traders(stage.ground.database_url, owners, stage.platform.marks, stage.random)
        await self._half(traders, seconds / 2, with_prepared=False)
        await self._allow_prepared()
        await self._half(traders, seconds / 2, with_prepared=True)
        await stage.rest()
        stage.platform.owners = [*stage.platform.owners, *owners]
        await stage.platform.final_word()
        await self._verify()
        await stage.trade()
        stage.healed()
        for failure in traders.failures[:5]:
            stage.broken(f"a writer failed: {failure}")
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(traders.counted.items()))
        stage.proves(kinds, len(traders.counted) >= 12)
        stage.proves(
            ", ".join(f"{count} × {how}" for how, count in self.broken.items()), len(self.broken) >= 3
        )
        stage.proves(f"verified {self.verified} times", self.verified > 1)
        stage.figure("accounts found different", self.different, 0, "")
        stage.figure("failures of writers", len(traders.failures), 0, "")

    async def _half(self, traders: Traders, seconds: float, *, with_prepared: bool) -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        await asyncio.gather(
            traders.run(stop, with_prepared=with_prepared),
            self._break_appliers(stop),
            self._verify_now_and_then(stop),
            self._say(traders, stop),
        )

    async def _allow_prepared(self) -> None:
        """Restart PostgreSQL with two-phase commits; from then on rows do not wake the applier."""
        stage = self.stage
        async with stage.ground.connection() as connection:
            await connection.execute(f"ALTER SYSTEM SET max_prepared_transactions = {_MOST_PREPARED}")
        await asyncio.to_thread(stage.ground.postgres.end)
        stage.ground.postgres.start()
        await stage.crowd.until_all_fresh()
        _say("PostgreSQL has restarted, with two-phase commits")

    async def _break_appliers(self, stop: asyncio.Event) -> None:
        ways = {
            "kill -9": self._kill,
            "SIGSTOP": self._stop,
            "SIGSTOP in a batch": self._freeze,
            "backend terminated": self._terminate,
        }
        draw = random.Random(self.stage.random.random())
        while not await _waited(stop, _BREAK_EVERY_SECONDS * (0.5 + draw.random())):
            how = draw.choice(list(ways))
            site, term = await self.stage.ground.leader()
            _say(f"applier {site.node.name} of term {term}: {how}")
            self.broken[how] = self.broken.get(how, 0) + 1
            await ways[how]()

    async def _kill(self) -> None:
        site, _ = await self.stage.ground.leader()
        await site.node.kill()
        await site.node.start()

    async def _stop(self) -> None:
        site, _ = await self.stage.ground.leader()
        site.node.send(signal.SIGSTOP)
        await asyncio.sleep(_STOPPED_SECONDS)
        site.node.send(signal.SIGCONT)

    async def _freeze(self) -> None:
        site, _ = await self.stage.ground.leader()
        with contextlib.suppress(TimeoutError):
            await site.node.ask("freeze_in_batch")
        await asyncio.sleep(_STOPPED_SECONDS)
        site.node.send(signal.SIGCONT)

    async def _terminate(self) -> None:
        async with self.stage.ground.connection() as connection:
            await connection.execute("SELECT pg_terminate_backend(backend_pid) FROM guardwire.applier")

    async def _verify_now_and_then(self, stop: asyncio.Event) -> None:
        while not await _waited(stop, _VERIFY_EVERY_SECONDS):
            await self._verify()

    async def _verify(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "realtime.cli", "verify", cwd=_ROOT,
            env={"PATH": os.environ["PATH"], "DATABASE_URL": self.stage.ground.database_url},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(_VERIFY_SECONDS):
            found, said = await process.communicate()
        self.verified += 1
        lines = found.decode().splitlines()
        _say(f"verify: exit code {process.returncode}: {said.decode().strip().splitlines()[-1]}")
        if process.returncode:
            self.different += max(1, len({line.split(" ", 1)[0] for line in lines}))
            for line in lines[:5]:
                _say(f"  {line}")
                self.stage.broken(line)

    async def _say(self, traders: Traders, stop: asyncio.Event) -> None:
        while not await _waited(stop, _PROGRESS_SECONDS):
            async with self.stage.ground.connection() as connection:
                waiting = await connection.fetchval("SELECT count(*) FROM guardwire.inbox")
                term = await connection.fetchval("SELECT term FROM guardwire.applier")
            _say(
                f"{time.monotonic() - self._began:.0f} s: {traders.counted.total()} transactions of writers,"
                f" {waiting} rows wait, term {term}, {len(traders.failures)} failures"
            )


async def _waited(stop: asyncio.Event, seconds: float) -> bool:
    """Wait for ``seconds``, or until ``stop`` is set; returns whether it is."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())

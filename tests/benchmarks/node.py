"""Child: the whole server as in production, but for its development key."""

from __future__ import annotations

import asyncio

import uvloop

from app import Development, server_for
from auth.development import DevelopmentKey
from realtime.cli.process import collect_garbage_seldom
from realtime.metrics import METRICS
from realtime.settings import Settings
from tests.benchmarks.children import announce, given
from tests.benchmarks.statements import Statements


async def _serve() -> None:
    values = given()
    statements = Statements()
    counts_statements, counts_reads = values.pop("counts_statements"), values.pop("counts_reads")
    if counts_statements:
        statements.watch()
    key = DevelopmentKey(values.pop("secret"))
    settings = Settings(mode="development", port=0, **values)
    server = server_for(settings, development=Development(key=key), signals=False)
    collect_garbage_seldom()
    async with server.running():
        count = METRICS.evaluation_batches if counts_reads else METRICS.applied_rows
        announce(server.port, lambda: statements.count if counts_statements else int(count.get()))
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())

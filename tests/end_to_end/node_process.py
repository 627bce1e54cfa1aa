"""A server in a process of its own, which a test may kill. It prints its address and serves until a signal ends it.

Run as a module; a JSON object of settings comes on standard input, with the signing secret beside them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auth.development import DevelopmentKey

_ROOT: Final = Path(__file__).parents[2]
_READY_SECONDS: Final = 20.0


@dataclass(frozen=True)
class NodeProcess:
    """A running server process."""

    url: str
    process: asyncio.subprocess.Process

    def kill(self) -> None:
        """Kill the process."""
        self.process.kill()


@contextlib.asynccontextmanager
async def node_process(
    database_url: str, redis_url: str, secret: str, **settings: str
) -> AsyncIterator[NodeProcess]:
    """Serve in another process while the context lasts; tokens are those of ``DevelopmentKey(secret)``."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.end_to_end.node_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        given = {"database_url": database_url, "redis_url": redis_url, "secret": secret, **settings}
        process.stdin.write(json.dumps(given).encode() + b"\n")
        line = await asyncio.wait_for(process.stdout.readline(), _READY_SECONDS)
        yield NodeProcess(line.decode().strip(), process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        process.stdin.close()
        await process.wait()


async def _serve() -> None:
    from app import Development, serving
    from realtime.cli.process import allow_many_connections, collect_garbage_seldom
    from realtime.settings import Settings

    given = json.loads(sys.stdin.readline())
    key = DevelopmentKey(given.pop("secret"))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    settings = Settings(mode="development", port=0, heartbeat_seconds=0.5, **given)
    allow_many_connections()
    collect_garbage_seldom()
    async with serving(settings, development=Development(key=key)) as url:
        sys.stdout.write(url + "\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(_serve())

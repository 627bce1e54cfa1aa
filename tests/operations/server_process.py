"""`guardwire serve` as an operator runs it: in a process of its own, with its output where the test wants it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import httpx

from realtime.embedded.folder import free_port
from tests.auth.issuer import AUDIENCE, ISSUER, SECRET

_ROOT: Final = Path(__file__).parents[2]
_READY_SECONDS: Final = 20.0


@dataclass(frozen=True)
class ServerProcess:
    """A running server, and its output when that goes to a file."""

    url: str
    process: asyncio.subprocess.Process
    log: Path

    @property
    def stream_url(self) -> str:
        """The URL of the WebSocket."""
        return self.url.replace("http", "ws", 1) + "/ws"

    def lines(self) -> list[dict[str, Any]]:
        """Every line of the log; each is a JSON object."""
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]

    async def ends(self, number: signal.Signals, *, within_seconds: float) -> float:
        """Send a signal and wait for the end; returns the duration."""
        began = time.monotonic()
        self.process.send_signal(number)
        async with asyncio.timeout(within_seconds):
            await self.process.wait()
        return time.monotonic() - began

    async def says(self, condition: Callable[[dict[str, Any]], object], *, seconds: float = 10) -> None:
        """Wait until a line of the log meets ``condition``."""
        async with asyncio.timeout(seconds):
            while not any(map(condition, self.lines())):
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def server_process(
    database_url: str,
    redis_url: str,
    folder: Path,
    variables: Mapping[str, str] = MappingProxyType({}),
    *,
    output: int | None = None,
) -> AsyncIterator[ServerProcess]:
    """Serve while the context lasts; standard error goes to ``output``, else to a file in ``folder``.

    ``variables`` are further settings; without ``GUARDWIRE_PORT`` among them the server gets a free port.
    """
    port, log = (
        int(variables.get("GUARDWIRE_PORT") or free_port()),
        folder / f"serve-{time.monotonic_ns()}.log",
    )
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "GUARDWIRE_PORT": str(port),
        "GUARDWIRE_JWT_SECRET": SECRET,
        "GUARDWIRE_JWT_ISSUER": ISSUER,
        "GUARDWIRE_JWT_AUDIENCE": AUDIENCE,
        **variables,
    }
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "realtime.cli", "serve"),
            stdout=file,
            stderr=file if output is None else output,
            env=environment,
            cwd=_ROOT,
        )
    server = ServerProcess(f"http://127.0.0.1:{port}", process, log)
    try:
        await _until_ready(server)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _until_ready(server: ServerProcess) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client, asyncio.timeout(_READY_SECONDS):
        while True:
            assert server.process.returncode is None, server.log.read_text("utf-8")
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)

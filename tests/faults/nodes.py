"""Nodes as processes: started, stopped, killed, and sent requests from here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from realtime.embedded.folder import free_port

_ROOT: Final = Path(__file__).parents[2]
_READY_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 10.0


@dataclass
class Node:
    """One node: its settings, its log, and its process while it runs. It keeps its port across restarts."""

    name: str
    settings: Mapping[str, str]
    log: Path
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """The address of the node itself; clients come through a proxy."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self, *, stderr: int | None = None, **asked: Any) -> None:
        """Start the process and wait until it accepts clients.

        ``stderr`` replaces its log file; ``asked`` is the misbehaviour that `node.py` describes.
        """
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(_ROOT),
            "GUARDWIRE_PORT": str(self.port),
            **self.settings,
        }
        with self.log.open("ab") as log:
            output = log if stderr is None else stderr
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.faults.node", json.dumps(asked),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=output,
                cwd=_ROOT, env=environment,
            )  # fmt: skip
        await self.until_ready()

    async def until_ready(self) -> None:
        """Wait until the node answers that it accepts clients."""
        deadline = time.monotonic() + _READY_SECONDS
        async with httpx.AsyncClient(base_url=self.url, timeout=2, trust_env=False) as client:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get("/readyz")).status_code == 200:
                        return
                assert self.process is not None
                if self.process.returncode is not None or time.monotonic() > deadline:
                    words = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
                    raise RuntimeError(f"node {self.name} did not become ready:\n{words}")
                await asyncio.sleep(0.05)

    async def ask(self, do: str, **request: Any) -> Any:
        """Send a request to the process (`node.py`), and return its answer."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
        return json.loads(await asyncio.wait_for(self.process.stdout.readline(), _ANSWER_SECONDS))

    async def metrics(self) -> dict[str, float]:
        """All its metrics, by name and label."""
        async with httpx.AsyncClient(base_url=self.url, timeout=5, trust_env=False) as client:
            text = (await client.get("/metrics")).text
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    async def metric(self, name: str) -> float:
        """One of its metrics; 0 before its first count."""
        return (await self.metrics()).get(name, 0.0)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    @property
    def state(self) -> str:
        """The state of the process as the kernel's letter: T is stopped; "" without such a process."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return ""

    async def ended(self, *, seconds: float = 40.0) -> int:
        """The exit code once the process has ended; negative for a signal."""
        assert self.process is not None
        return await asyncio.wait_for(self.process.wait(), seconds)

    async def kill(self) -> int:
        """Kill the process."""
        assert self.process is not None
        if self.process.returncode is None:
            self.send(signal.SIGKILL)
        return await self.ended()

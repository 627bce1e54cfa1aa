"""Servers under measurement: each in a process of its own, which reports its usage on request.

A child is a module that reads a JSON object from its standard input, calls `announce` when it listens, and answers
every further line with its usage. It ends when its standard input closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

_ROOT: Final = Path(__file__).parents[2]
_READY_SECONDS: Final = 30.0


class Usage(NamedTuple):
    """The resources of a process: CPU of all its threads, its memory now, and the child's own counter."""

    cpu_seconds: float
    rss_bytes: int
    counted: int


class Child:
    """A running server."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port
        self.pid = process.pid

    async def usage(self) -> Usage:
        """Its usage until now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"usage\n")
        return Usage(*json.loads(await self._process.stdout.readline()))


@contextlib.asynccontextmanager
async def child(module: str, **given: Any) -> AsyncIterator[Child]:
    """Run ``tests.benchmarks.<module>`` with ``given`` while the context lasts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"tests.benchmarks.{module}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        # Ctrl-C ends this process alone; the child ends when its input closes.
        start_new_session=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(given).encode() + b"\n")
        line = await asyncio.wait_for(process.stdout.readline(), _READY_SECONDS)
        if not line:
            raise RuntimeError(f"{module} ended before it listened")
        yield Child(process, json.loads(line))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


# The code of the child.


def given() -> dict[str, Any]:
    """The arguments of `child`."""
    values: dict[str, Any] = json.loads(sys.stdin.readline())
    return values


def announce(port: int, counted: Callable[[], int] = lambda: 0) -> None:
    """Report that this process listens, and answer requests for its usage from a thread until the input closes."""
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    threading.Thread(target=_answer, args=(counted,), name="usage", daemon=True).start()


def _answer(counted: Callable[[], int]) -> None:
    for _ in sys.stdin:
        sys.stdout.write(json.dumps((time.process_time(), _rss_bytes(), counted())) + "\n")
        sys.stdout.flush()
    os._exit(0)


def _rss_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        # Without /proc the peak has to do; it equals the present size in a server that only gains sockets.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()

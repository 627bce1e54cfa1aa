"""A server in a process of its own, which tests kill and start again on the same port.

Run as a module; the settings are a JSON object on standard input, and the server ends when that closes.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from auth.development import DevelopmentKey

_ROOT: Final = Path(__file__).parents[2]


class DashboardProcess:
    """A server that can be started, killed and stopped; it keeps its address after the first start."""

    def __init__(self, **given: Any) -> None:
        self.port = 0
        self._given = given
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Its URL without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.browser.dashboard_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT)},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**self._given, "port": self.port}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the server did not start"
        self.port = int(line)

    def kill(self) -> None:
        """Kill it; does nothing when it does not run."""
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None

    def stop(self) -> None:
        """End it as in a deployment: it closes its clients first."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=30)
        self._process = None


async def _serve(given: dict[str, Any]) -> None:
    from app import Development, serving
    from realtime.settings import Settings

    secret, demo_user = given.pop("secret"), given.pop("demo_user")
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_reader(sys.stdin, ended.set)
    development = Development(key=DevelopmentKey(secret), demo_user=UUID(demo_user) if demo_user else None)
    async with serving(Settings(mode="development", **given), development=development) as url:
        sys.stdout.write(url.rsplit(":", 1)[1] + "\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.stdin.readline())))

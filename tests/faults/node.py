"""`guardwire serve` in a process that can be made to misbehave: the real command, and a line of requests to it.

python -m tests.faults.node '{"clock_seconds": 3600}'

The settings come from the environment, as in production. Every line on standard input is one request, a JSON object
``{"do": NAME, …}`` for a method of `Line`, and its answer is one JSON line on standard output. The product has no part
in this: a request changes it from outside, by wrapping a method.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

#: States in /proc/net/tcp of sockets that are no connection: TIME_WAIT and LISTEN.
_NO_CONNECTION: Final = ("06", "0A")


class Line:
    """The requests that a test may send to the node of this process."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._may_publish = threading.Event()
        self._may_publish.set()
        self._held = 0
        self._freezes = False

    def answer(self, text: str) -> Any:
        """Execute the request in ``text``."""
        request = json.loads(text)
        return getattr(self, request.pop("do"))(**request)

    def report(self) -> dict[str, Any]:
        """The resources that the process holds now."""
        assert self.loop is not None
        tasks = collections.Counter(task.get_name() for task in asyncio.all_tasks(self.loop))
        return {
            "tasks": {_without_number(name): count for name, count in tasks.items()},
            "files": len(list(Path("/proc/self/fd").iterdir())),
            "clients": _connections_to(int(os.environ["GUARDWIRE_PORT"])),
            "rss_bytes": int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize(),
            "held": self._held,
            "time": time.time(),
        }

    def collect(self) -> None:
        """Collect garbage, so that a measurement counts reachable objects alone."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(gc.collect)

    def block(self, seconds: float) -> None:
        """Keep the event loop busy."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(_spin, seconds)

    def limit_files(self, spare: int) -> int:
        """Allow so many more open files than there are now; returns the number of open files."""
        open_now = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(open_now + 1 + spare, hard), hard))
        return open_now

    def unlimit_files(self) -> None:
        """Restore the limit of open files."""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def limit_file_size(self, size_bytes: int) -> None:
        """Refuse writes to regular files beyond this size, as a full disk does; -1 restores the limit."""
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size_bytes < 0 else size_bytes, hard))

    def hold(self) -> None:
        """From now on, stop between the read of an account and the use of the result."""
        self._may_publish.clear()

    def release(self) -> None:
        """Continue after the stop."""
        self._may_publish.set()

    def freeze_in_batch(self) -> None:
        """Stop this process in the applier's next batch, between the batch and its COMMIT."""
        self._freezes = True

    # The wrappers around parts of the node.

    def tap(self) -> None:
        """Find the node's event loop, and wrap the use of a read result and the applier's batches."""
        import app
        from queries.live_query import LiveQueries
        from realtime.feed.applier import Applier

        start, evaluate, apply = app.Node.start, LiveQueries.evaluate, Applier._apply

        async def tapped_start(node: app.Node) -> None:
            self.loop = asyncio.get_running_loop()
            await start(node)

        async def tapped_evaluate(queries: LiveQueries, *args: Any, **named: Any) -> Any:
            evaluations = await evaluate(queries, *args, **named)
            if not self._may_publish.is_set():
                self._held += len(evaluations)
                while not self._may_publish.is_set():
                    await asyncio.sleep(0.01)
            return evaluations

        async def tapped_apply(applier: Applier, connection: Any, term: int) -> int:
            if self._freezes:
                await connection.execute("BEGIN")
                applied = await connection.fetchval("SELECT (guardwire.apply($1, 1000)).applied", term)
                if applied:
                    self._freezes = False
                    os.kill(os.getpid(), signal.SIGSTOP)
                await connection.execute("COMMIT")
                return int(applied)
            return await apply(applier, connection, term)

        Applier._apply = tapped_apply  # type: ignore[method-assign,assignment]
        app.Node.start = tapped_start  # type: ignore[method-assign,assignment]
        LiveQueries.evaluate = tapped_evaluate  # type: ignore[method-assign,assignment]

    def listen(self) -> None:
        """Answer requests until standard input closes, and then end this process."""
        for text in sys.stdin:
            sys.stdout.write(json.dumps(self.answer(text)) + "\n")
            sys.stdout.flush()
        os._exit(0)


def _spin(seconds: float) -> None:
    # A computation, because a sleep would release the interpreter's lock, and what blocks a loop in practice does not.
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def _without_number(name: str) -> str:
    return "Task" if name.startswith("Task-") else name


def _connections_to(port: int) -> int:
    rows = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    fields = [row.split() for row in rows]
    return sum(
        row[1].endswith(f":{port:04X}") and row[3] not in _NO_CONNECTION and row[9] != "0" for row in fields
    )


def _move_clock(seconds: float) -> None:
    """Shift this process' wall clock before anything reads it; monotonic time stays unchanged."""
    real = time.time
    time.time = lambda: real() + seconds


def main() -> None:
    """Serve, with the misbehaviour that the argument names."""
    asked = json.loads(sys.argv.pop(1))
    if asked.get("clock_seconds"):
        _move_clock(asked["clock_seconds"])
    from realtime.cli import main as guardwire

    line = Line()
    line.tap()
    threading.Thread(target=line.listen, name="line", daemon=True).start()
    sys.argv = ["guardwire", "serve"]
    guardwire()


if __name__ == "__main__":
    main()

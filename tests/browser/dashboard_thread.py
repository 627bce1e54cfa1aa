"""A server in a thread of the tests' process, which starts far sooner than a process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from queue import SimpleQueue

from app import Development, serving
from realtime.settings import Settings

_START_SECONDS = 20.0


@contextlib.contextmanager
def serving_in_thread(settings: Settings, development: Development) -> Iterator[int]:
    """Serve while the context lasts; yields the port."""
    told: SimpleQueue[int | None] = SimpleQueue()
    loop, ended = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with serving(settings, development=development) as url:
            told.put(int(url.rsplit(":", 1)[1]))
            await ended.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            told.put(None)
            loop.close()

    thread = threading.Thread(target=run, name="server", daemon=True)
    thread.start()
    port = told.get(timeout=_START_SECONDS)
    assert port is not None, "the server did not start"
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()

"""The demo in a thread of the tests' process, with its bot and its simulated platform."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from queue import SimpleQueue

from auth.development import DevelopmentKey
from realtime.cli.demo import play
from realtime.settings import Settings
from realtime.simulator import SimulatorOptions

_START_SECONDS = 20.0


@contextlib.contextmanager
def demo_in_thread(settings: Settings, options: SimulatorOptions, key: DevelopmentKey) -> Iterator[int]:
    """Play the demo while the context lasts; yields the server's port."""
    told: SimpleQueue[int | None] = SimpleQueue()
    loop, ended = asyncio.new_event_loop(), asyncio.Event()

    async def run_demo() -> None:
        async with play(settings, settings.database_url, options, key=key, stop=ended) as (url, platform):
            told.put(int(url.rsplit(":", 1)[1]))
            await platform

    def run() -> None:
        try:
            loop.run_until_complete(run_demo())
        finally:
            told.put(None)
            loop.close()

    thread = threading.Thread(target=run, name="demo", daemon=True)
    thread.start()
    port = told.get(timeout=_START_SECONDS)
    assert port is not None, "the demo did not start"
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()

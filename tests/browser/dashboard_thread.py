"""A server in a thread of the tests' process, which starts far sooner than a process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from queue import SimpleQueue

from app import Development, serving
from realtime.settings import Settings

_START_SECONDS = 20.0

#: Serves until the event is set; the function is called with the server's URL when it has started.
Serve = Callable[[Callable[[str], None], asyncio.Event], Awaitable[None]]


@contextlib.contextmanager
def in_thread(serve: Serve, *, name: str) -> Iterator[int]:
    """Run ``serve`` in a thread of this ``name`` while the context lasts; yields the port."""
    told: SimpleQueue[int | None] = SimpleQueue()
    loop, ended = asyncio.new_event_loop(), asyncio.Event()

    async def serve_until_ended() -> None:
        await serve(lambda url: told.put(int(url.rsplit(":", 1)[1])), ended)

    def run() -> None:
        try:
            loop.run_until_complete(serve_until_ended())
        finally:
            told.put(None)
            loop.close()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    port = told.get(timeout=_START_SECONDS)
    assert port is not None, f"the {name} did not start"
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


@contextlib.contextmanager
def serving_in_thread(settings: Settings, development: Development) -> Iterator[int]:
    """Serve while the context lasts; yields the port."""

    async def serve(begun: Callable[[str], None], ended: asyncio.Event) -> None:
        async with serving(settings, development=development) as url:
            begun(url)
            await ended.wait()

    with in_thread(serve, name="server") as port:
        yield port

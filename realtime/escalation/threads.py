"""Blocking calls of libraries, in threads that keep neither the event loop nor the end of the process waiting."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


class Threads:
    """Runs blocking calls, at most so many at once.

    The threads are daemons: Python waits at its exit for the threads of an executor, and a name server that does not
    answer would hold up the end of a node. A call whose caller gave up keeps its place until it ends.
    """

    def __init__(self, name: str, *, most: int) -> None:
        self._name = name
        self._places = asyncio.Semaphore(most)

    async def run(self, call: Callable[[], Result]) -> Result:
        """The result of ``call``, or its exception."""
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def settle(setter: Callable[[Any], None], value: Any) -> None:
            self._places.release()
            if not future.done():
                setter(value)

        def work() -> None:
            setter: Callable[[Any], None]
            value: Any
            try:
                setter, value = future.set_result, call()
            except BaseException as error:  # a thread has nobody else to raise it to
                setter, value = future.set_exception, error
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, setter, value)

        try:
            threading.Thread(target=work, name=self._name, daemon=True).start()
        except RuntimeError:  # the machine has no thread left
            self._places.release()
            raise
        return await future

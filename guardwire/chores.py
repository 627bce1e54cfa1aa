"""Small tasks beside a link: named, cancelled with it, and loud when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Chores:
    """``on_failure`` is told of every exception that a chore did not expect."""

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        self._on_failure = on_failure
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do ``work`` unless a chore of that ``name`` is still being done."""
        known = self._tasks.get(name)
        # One that has ended may not have been taken off yet, and what it left undone would be left for ever.
        if known is not None and not known.done():
            return
        task = asyncio.get_running_loop().create_task(work(), name=f"guardwire client {name}")
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._done(name, done))

    async def cancel(self) -> None:
        """Stop them all and wait until they have."""
        tasks = [task for task in self._tasks.values() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _done(self, name: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._on_failure(failure)

"""Background tasks end when they are cancelled, also a task that misses the first cancellation."""

from __future__ import annotations

import asyncio

from realtime.supervise import Supervisor


async def test_a_task_that_lost_its_cancellation_is_told_again() -> None:
    begun, lost = asyncio.Event(), asyncio.Event()

    async def deaf_once() -> None:
        while True:
            try:
                begun.set()
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if lost.is_set():
                    raise
                lost.set()

    supervisor = Supervisor()
    supervisor.start("deaf once", deaf_once)
    await begun.wait()
    await asyncio.wait_for(supervisor.stop(), 10)
    assert lost.is_set()

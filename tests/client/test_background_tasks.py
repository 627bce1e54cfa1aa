"""Background tasks beside a link: one of each name at a time, and none is lost."""

from __future__ import annotations

import asyncio

from guardwire.connection import BackgroundTasks


async def test_a_task_that_has_just_ended_does_not_stop_the_next_one() -> None:
    failures: list[BaseException] = []
    tasks, done = BackgroundTasks(failures.append), list[int]()

    async def work() -> None:
        done.append(len(done))

    for turn in range(3):
        tasks.start("channels", work)
        # The task has ended here, and its callback has not run yet.
        await asyncio.sleep(0)
        assert len(done) == turn + 1
    await tasks.cancel()
    assert failures == []


async def test_a_task_that_is_running_is_not_started_again() -> None:
    tasks, started, go_on = BackgroundTasks(lambda _: None), list[int](), asyncio.Event()

    async def work() -> None:
        started.append(1)
        await go_on.wait()

    for _ in range(3):
        tasks.start("snapshot", work)
        await asyncio.sleep(0)
    assert len(started) == 1
    await tasks.cancel()

"""Small tasks beside a link: one of a name at a time, and none is lost."""

from __future__ import annotations

import asyncio

from guardwire.chores import Chores


async def test_a_chore_that_has_just_ended_does_not_stand_in_the_way_of_the_next() -> None:
    failures: list[BaseException] = []
    chores, done = Chores(failures.append), list[int]()

    async def work() -> None:
        done.append(len(done))

    for turn in range(3):
        chores.begin("channels", work)
        # It has ended when this goes on, and nobody has been told of that yet.
        await asyncio.sleep(0)
        assert len(done) == turn + 1
    await chores.cancel()
    assert failures == []


async def test_a_chore_that_is_being_done_is_not_begun_again() -> None:
    chores, begun, go_on = Chores(lambda _: None), list[int](), asyncio.Event()

    async def work() -> None:
        begun.append(1)
        await go_on.wait()

    for _ in range(3):
        chores.begin("resync", work)
        await asyncio.sleep(0)
    assert len(begun) == 1
    await chores.cancel()

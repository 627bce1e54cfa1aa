"""The dirty set: many tasks mark accounts, and one drains them."""

from __future__ import annotations

import asyncio
from uuid import UUID

from realtime.feed.dirty import DirtySet

ONE, TWO, THREE = (UUID(int=number) for number in (1, 2, 3))


async def test_marks_are_taken_in_order_and_once() -> None:
    dirty = DirtySet()
    dirty.mark_all([TWO, ONE, TWO])
    assert await dirty.take(10) == [TWO, ONE]
    assert len(dirty) == 0


async def test_what_is_marked_while_a_batch_is_read_is_in_the_next_one() -> None:
    dirty = DirtySet()
    dirty.mark(ONE)
    assert await dirty.take(10) == [ONE]
    dirty.mark(ONE)
    assert await dirty.take(10) == [ONE]


async def test_a_batch_is_bounded_and_the_rest_stays_marked() -> None:
    dirty = DirtySet()
    dirty.mark_all([ONE, TWO, THREE])
    assert await dirty.take(2) == [ONE, TWO]
    assert await dirty.take(2) == [THREE]


async def test_taking_waits_for_a_mark() -> None:
    dirty = DirtySet()
    taking = asyncio.create_task(dirty.take(1))
    await asyncio.sleep(0)
    assert not taking.done()
    dirty.mark(ONE)
    assert await taking == [ONE]

"""Turns come when they were asked for, once, and a crowd is spread."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from realtime.delivery.websocket.timer_wheel import EARLY_SECONDS, TICK_SECONDS, Wheel

START = 1000.0


class Waiter:
    def __init__(self) -> None:
        self.tick = -1
        self.turns: list[float] = []


def turn(wheel: Wheel[Waiter], start: float, seconds: float) -> None:
    """Let time pass, a tick at a time, and note when each turn came."""
    for number in range(1, int(seconds / TICK_SECONDS) + 1):
        now = start + number * TICK_SECONDS
        for waiter in wheel.take(now):
            waiter.turns.append(now)


@given(st.lists(st.floats(START - 10, START + 20), max_size=50))
def test_a_turn_comes_within_a_tick_of_when_it_was_asked_for_and_once(asked: list[float]) -> None:
    wheel: Wheel[Waiter] = Wheel(START)
    waiters = [Waiter() for _ in asked]
    for waiter, at in zip(waiters, asked, strict=True):
        wheel.put(waiter, at)
    turn(wheel, START, 30)
    for waiter, at in zip(waiters, asked, strict=True):
        (came,) = waiter.turns
        assert 0 <= came - max(at, START) <= TICK_SECONDS


def test_who_is_put_anew_has_one_turn_at_the_new_time_alone() -> None:
    wheel: Wheel[Waiter] = Wheel(START)
    sooner, later = Waiter(), Waiter()
    for waiter, at in ((sooner, 10), (sooner, 2), (later, 2), (later, 10)):
        wheel.put(waiter, START + at)
    turn(wheel, START, 30)
    assert (sooner.turns, later.turns) == ([START + 2], [START + 10])


def test_nobody_is_forgotten_when_time_stood_still() -> None:
    wheel: Wheel[Waiter] = Wheel(START)
    waiters = [Waiter() for _ in range(100)]
    for number, waiter in enumerate(waiters):
        wheel.put(waiter, START + number)
    assert set(wheel.take(START + 1000)) == set(waiters)


def test_who_is_put_back_at_the_turn_has_the_next_one_in_another_tick() -> None:
    wheel: Wheel[Waiter] = Wheel(START)
    waiter = Waiter()
    wheel.put(waiter, START + 1)
    for _ in wheel.take(START + 1):
        wheel.put(waiter, START)
    assert list(wheel.take(START + 1)) == []
    assert list(wheel.take(START + 1 + TICK_SECONDS)) == [waiter]


def test_a_crowd_that_came_at_once_does_not_stay_one_and_nobody_waits_longer_for_it() -> None:
    wheel: Wheel[Waiter] = Wheel(START)
    waiters = [Waiter() for _ in range(2000)]
    for waiter in waiters:
        wheel.put(waiter, START + 5)
    most = 0
    for number in range(1, 241):
        now = START + number * TICK_SECONDS
        turns = list(wheel.take(now))
        if now > START + 30:
            most = max(most, len(turns))
        for waiter in turns:
            waiter.turns.append(now)
            wheel.put(waiter, now + 5)
    assert most <= len(waiters) / 3
    gaps = {after - before for waiter in waiters for before, after in pairwise(waiter.turns)}
    assert min(gaps) >= 5 - EARLY_SECONDS
    assert max(gaps) <= 5

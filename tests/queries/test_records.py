"""`Remembered` keeps a value for as long as it is being read."""

from __future__ import annotations

from queries.records import Remembered


def remembered(most: int = 100) -> tuple[Remembered[int, str], list[int]]:
    made: list[int] = []

    def make(key: int) -> str:
        made.append(key)
        return str(key)

    return Remembered(make, most=most), made


def test_a_value_that_is_asked_for_again_is_the_same_from_then_on() -> None:
    look_up, made = remembered()
    assert look_up(1) == "1"
    assert len(look_up) == 0
    second = look_up(1)
    for _ in range(5):
        assert look_up(1) is second
        look_up.age()
    assert made == [1, 1]


def test_what_was_not_asked_for_between_two_ages_is_forgotten() -> None:
    look_up, made = remembered()
    look_up(1)
    look_up(1)
    assert len(look_up) == 1
    look_up.age()
    look_up.age()
    assert len(look_up) == 0
    look_up(1)
    assert len(look_up) == 0
    assert made == [1, 1, 1]


def test_it_never_remembers_more_than_twice_what_it_may() -> None:
    look_up, _ = remembered(most=10)
    for key in range(1000):
        for _ in range(3):
            look_up(key)
            assert len(look_up) <= 20

"""Beats are gathered, and written when half of a lease is over, with their age."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import pytest

from queries.alert_calls import Beat
from realtime.delivery.attendance import MOST_NAMES, MOST_WRITTEN, Attendance
from realtime.errors import UnavailableError

ANN, BOB = uuid4(), uuid4()
START: Final = 1_000.0


class Written:
    """The statements of an `Attendance`; while ``is_away``, they fail as without a database."""

    def __init__(self) -> None:
        self.statements: list[list[Beat]] = []
        self.is_away = False

    async def __call__(self, beats: Sequence[Beat]) -> None:
        if self.is_away:
            raise UnavailableError("away")
        self.statements.append(list(beats))


async def test_the_beats_of_all_accounts_are_one_statement() -> None:
    written = Written()
    attendance = Attendance(write=written)
    for user in (ANN, BOB):
        for name in ("a", "b"):
            assert attendance.beat(user, name, 15, START)
    await attendance.write_due(START + 0.5)
    assert written.statements == [[Beat(user, name, 15, 0.5) for user in (ANN, BOB) for name in ("a", "b")]]


async def test_a_crowd_that_comes_at_once_is_written_in_several_statements() -> None:
    written = Written()
    attendance = Attendance(write=written)
    users = [uuid4() for _ in range(MOST_WRITTEN + 1)]
    for user in users:
        attendance.beat(user, "a", 15, START)
    await attendance.write_due(START)
    assert [len(beats) for beats in written.statements] == [MOST_WRITTEN, 1]
    assert [beat.account for beats in written.statements for beat in beats] == users


async def test_a_bot_that_beats_often_is_written_when_half_of_its_lease_is_over() -> None:
    written = Written()
    attendance = Attendance(write=written)
    for second in range(31):
        attendance.beat(ANN, "a", 15, START + second)
        await attendance.write_due(START + second)
    assert len(written.statements) == 4


async def test_the_last_beat_before_a_bot_dies_is_written_with_its_age() -> None:
    written = Written()
    attendance = Attendance(write=written)
    for at in (START, START + 1, START + 2):
        attendance.beat(ANN, "a", 15, at)
        await attendance.write_due(at)
    for second in range(3, 60):
        await attendance.write_due(START + second)
    assert written.statements == [[Beat(ANN, "a", 15, 0)], [Beat(ANN, "a", 15, 6)]]


async def test_a_lease_of_another_length_is_written_at_once() -> None:
    written = Written()
    attendance = Attendance(write=written)
    for lease_seconds in (60, 5):
        attendance.beat(ANN, "a", lease_seconds, START)
        await attendance.write_due(START)
    assert [[each.lease_seconds for each in beats] for beats in written.statements] == [[60], [5]]


async def test_beats_wait_for_a_database_that_is_away_and_only_the_newest_is_written() -> None:
    written = Written()
    attendance = Attendance(write=written)
    written.is_away = True
    for second in range(20):
        attendance.beat(ANN, "a", 15, START + second)
        with pytest.raises(UnavailableError):
            await attendance.write_due(START + second)
    written.is_away = False
    await attendance.write_due(START + 20)
    assert written.statements == [[Beat(ANN, "a", 15, 1)]]


async def test_a_bot_that_died_while_the_database_was_away_is_not_written() -> None:
    written = Written()
    attendance = Attendance(write=written)
    attendance.beat(ANN, "a", 15, START)
    await attendance.write_due(START + 15.1)
    assert written.statements == []


async def test_a_bot_that_leaves_has_no_beat_under_way() -> None:
    written = Written()
    attendance = Attendance(write=written)
    attendance.beat(ANN, "a", 15, START)
    attendance.beat(ANN, "b", 15, START)
    attendance.forget(ANN, "a")
    await attendance.write_due(START)
    assert written.statements == [[Beat(ANN, "b", 15, 0)]]


def test_names_beyond_the_limit_are_refused_until_a_lease_is_over() -> None:
    attendance = Attendance(write=Written())
    for number in range(MOST_NAMES):
        assert attendance.beat(ANN, str(number), 5, START)
    assert not attendance.beat(ANN, "more", 5, START)
    assert attendance.beat(ANN, "0", 5, START)
    assert attendance.beat(BOB, "more", 5, START)
    attendance.due(START + 6)
    assert attendance.beat(ANN, "more", 5, START + 6)

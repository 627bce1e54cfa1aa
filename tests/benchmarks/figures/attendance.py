"""Ten thousand armed accounts whose bots beat every five seconds: the writing of beats, and housekeeping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

from queries.alert_calls import Beat, beat
from queries.capture import housekeep
from realtime.delivery.attendance import WRITE_EVERY_SECONDS, Attendance
from realtime.feed.housekeeping import INTERVAL_SECONDS
from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import Ground
from tests.benchmarks.platform import settle
from tests.benchmarks.postgres import run_seconds

_COUNTS: Final = (1_000, 10_000)
_BEAT_SECONDS: Final = 5
_LEASE_SECONDS: Final = 15.0
_WINDOW_SECONDS: Final = 5
_ARM: Final = """
WITH made AS (INSERT INTO guardwire.accounts (user_id, revision, ready)
              SELECT gen_random_uuid(), 1, true FROM generate_series(1, $1::integer) RETURNING user_id)
SELECT user_id FROM made
"""
_WRITING: Final = (
    "beats are written when half of their lease is over, a row of guardwire.attendants each, and each account's"
    " attendance is looked at once in each lease"
)


class _Crowd:
    """Armed accounts of one database, with the parts of a node that write their beats and keep house."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._attendance = Attendance(write=self._write)
        self._python_seconds = 0.0
        self._users: Sequence[UUID] = ()
        self.statements = 0
        connection.add_query_logger(self._on_query)

    async def arm(self, count: int) -> None:
        self._users = [row["user_id"] for row in await self._connection.fetch(_ARM, count)]
        await self._connection.execute(
            "SELECT guardwire.set_arming(u, true, NULL, NULL, 'owner') FROM unnest($1::uuid[]) AS u",
            self._users,
        )
        for user in self._users:
            self._attendance.beat(user, "closer-1", _LEASE_SECONDS, time.monotonic())
        await self._attendance.write_due(time.monotonic())
        await settle(self._connection)

    async def check(self) -> None:
        """Raise unless every account was attended all the time."""
        attended = await self._connection.fetchval(
            "SELECT count(*) FROM guardwire.attendance WHERE status = 'attended'"
        )
        alarms = await self._connection.fetchval("SELECT count(*) FROM guardwire.alerts")
        if (attended, alarms) != (len(self._users), 0):
            raise RuntimeError(
                f"{attended} of {len(self._users)} accounts were attended, with {alarms} alarms"
            )

    def cpu_seconds(self) -> float:
        """CPU of the database's session and of this process for the crowd."""
        return run_seconds(self._connection.get_server_pid()) + self._python_seconds

    async def second(self, number: int) -> None:
        """One second of work: a fifth of the bots beat, beats are written, and every other time house is kept."""
        begun = time.thread_time()
        for user in self._users[number % _BEAT_SECONDS :: _BEAT_SECONDS]:
            self._attendance.beat(user, "closer-1", _LEASE_SECONDS, time.monotonic())
        self._python_seconds += time.thread_time() - begun
        await self._attendance.write_due(time.monotonic())
        if number % (INTERVAL_SECONDS / WRITE_EVERY_SECONDS) == 0:
            await housekeep(self._connection)

    async def _write(self, beats: Sequence[Beat]) -> None:
        begun = time.thread_time()
        await beat(self._connection, beats)
        self._python_seconds += time.thread_time() - begun

    def _on_query(self, _record: object) -> None:
        self.statements += 1


async def measure(ground: Ground) -> list[Figure]:
    """Each crowd in a database of its own, in turn within each second."""
    async with AsyncExitStack() as stack:
        crowds = []
        for count in _COUNTS:
            connection = await stack.enter_async_context(ground.another_database())
            crowds.append(_Crowd(connection))
            await crowds[-1].arm(count)
        readings = [[(crowd.cpu_seconds(), crowd.statements)] for crowd in crowds]
        begun, second = time.monotonic(), 0
        # Until the first leases have been looked at once.
        warm = int(_LEASE_SECONDS)
        for second in range(warm + _WINDOW_SECONDS * ground.scale.samples):
            for crowd in crowds:
                await crowd.second(second)
            if second >= warm - 1 and (second - warm + 1) % _WINDOW_SECONDS == 0:
                for crowd, taken in zip(crowds, readings, strict=True):
                    taken.append((crowd.cpu_seconds(), crowd.statements))
            await asyncio.sleep(max(0.0, begun + second + 1 - time.monotonic()))
        for crowd in crowds:
            await crowd.check()
    windows = [list(pairwise(taken[1:])) for taken in readings]
    cpu = [[100 * (b[0] - a[0]) / _WINDOW_SECONDS for a, b in each] for each in windows]
    statements = [[(b[1] - a[1]) / _WINDOW_SECONDS for a, b in each] for each in windows]
    few, many = _COUNTS
    note = (
        f"{many / _BEAT_SECONDS:,.0f} beats a second are given to the part of a node that writes them; measured are"
        " that part, PostgreSQL's session for its statements and for housekeeping, and not the sockets"
    )
    return [
        Figure(
            name=f"CPU of {many:,} armed accounts, a beat every {_BEAT_SECONDS} s, against {few:,}",
            unit="% of a core",
            ours=cpu[1],
            reference=cpu[0],
            limit=3,
            note=note,
            in_the_way=_WRITING,
        ),
        Figure(
            name=f"statements/s of {many:,} armed accounts, against {few:,}",
            unit="/s",
            ours=statements[1],
            reference=statements[0],
            target=1.05,
            note=note,
        ),
    ]

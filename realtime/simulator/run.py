"""Runs the platform in real time: keeps the rate, catches up after a stall, and stops on an event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Final
from uuid import UUID

import asyncpg

from realtime.simulator.options import SimulatorOptions, SimulatorReport, demo_user_id
from realtime.simulator.orders import Orders
from realtime.simulator.platform import STEP_SECONDS, SimulatedPlatform
from realtime.simulator.rows import Transaction
from realtime.simulator.writer import Writer

_PROGRESS_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.5
_HELD_AT_ONCE: Final = 4
#: The errors of a database that restarts, or of a connection that broke.
_AWAY: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)


async def simulate(
    database_url: str,
    options: SimulatorOptions,
    *,
    stop: asyncio.Event | None = None,
    progress: Callable[[str], None] | None = None,
    orders: Orders | None = None,
) -> SimulatorReport:
    """Write a platform's rows to ``database_url`` until ``options.seconds`` are over or ``stop`` is set.

    When the database goes away meanwhile, the platform waits for it and then writes the rows that were due.
    ``progress`` gets a sentence every few seconds, and ``orders`` are carried out at the next step. Raises asyncpg's
    errors when the database cannot be used.
    """
    # Each transaction that commits late holds a connection.
    writer = await Writer.connect(database_url, connections=options.writers + _HELD_AT_ONCE)
    try:
        user_ids = [demo_user_id(index) for index in range(options.users)]
        platform = SimulatedPlatform(options, past=await writer.past(user_ids), orders=orders or Orders())
        await _open(writer, platform, user_ids)
        run = _Run(platform, writer, options, stop or asyncio.Event(), progress or (lambda _sentence: None))
        return await run.run()
    finally:
        await writer.close()


async def _open(writer: Writer, platform: SimulatedPlatform, user_ids: Sequence[UUID]) -> None:
    now, offset = datetime.now(UTC), platform.options.clock.offset_at(0.0)
    leftovers = await writer.leftovers(user_ids, now)
    size = platform.options.rows_per_commit
    for start in range(0, len(leftovers), size):
        await writer.commit(Transaction(log=leftovers[start : start + size]).shifted(offset))
    for transaction in platform.opening(now):
        await writer.commit(transaction.shifted(offset))


@dataclass(slots=True)
class _Run:
    platform: SimulatedPlatform
    writer: Writer
    options: SimulatorOptions
    stop: asyncio.Event
    progress: Callable[[str], None]
    _held: int = 0
    _chance: Random = field(init=False)
    _worst_lag_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._chance = Random(self.options.seed)  # noqa: S311 a game of chance, no secret

    async def run(self) -> SimulatorReport:
        opening_rows = self.writer.written.log_rows
        started = reported_at = time.monotonic()
        step = 0
        async with asyncio.TaskGroup() as late:
            while self.options.seconds is None or step * STEP_SECONDS < self.options.seconds:
                step += 1
                if await self._wait_until(started + step * STEP_SECONDS):
                    break
                offset = self.options.clock.offset_at(time.monotonic() - started)
                written = self.platform.step(datetime.now(UTC))
                await self._commit_all([each.shifted(offset) for each in written], late)
                if time.monotonic() - reported_at >= _PROGRESS_SECONDS:
                    reported_at = time.monotonic()
                    self.progress(self._sentence(reported_at - started, opening_rows))
        return self._report(time.monotonic() - started, opening_rows)

    async def _wait_until(self, moment: float) -> bool:
        """Wait until ``moment``; True when `stop` is set. A moment in the past lets a late platform catch up."""
        wait_seconds = moment - time.monotonic()
        self._worst_lag_seconds = max(self._worst_lag_seconds, -wait_seconds)
        if wait_seconds <= 0:
            await asyncio.sleep(0)
            return self.stop.is_set()
        try:
            await asyncio.wait_for(self.stop.wait(), wait_seconds)
        except TimeoutError:
            return False
        return True

    async def _commit_all(self, transactions: Sequence[Transaction], late: asyncio.TaskGroup) -> None:
        on_time = []
        for transaction in transactions:
            if self._chance.random() < self.options.late_commits and self._held < _HELD_AT_ONCE:
                hold_seconds = self._chance.uniform(0, self.options.late_commit_seconds)
                late.create_task(self._commit_late(transaction, hold_seconds), name="late commit")
            else:
                on_time.append(transaction)
        size = self.options.writers
        for start in range(0, len(on_time), size):
            await asyncio.gather(*(self._commit(each) for each in on_time[start : start + size]))

    async def _commit_late(self, transaction: Transaction, hold_seconds: float) -> None:
        self._held += 1
        try:
            await self._commit(transaction, hold_seconds)
        finally:
            self._held -= 1

    async def _commit(self, transaction: Transaction, hold_seconds: float = 0.0) -> None:
        while True:
            try:
                return await self.writer.commit(transaction, hold_seconds=hold_seconds)
            except asyncpg.UniqueViolationError:
                return None  # the commit had succeeded before the connection broke
            except _AWAY as error:
                self.progress(f"the database is away ({type(error).__name__}); trying again")
                await asyncio.sleep(_RETRY_SECONDS)
                if self.stop.is_set():
                    return None

    def _sentence(self, seconds: float, opening_rows: int) -> str:
        written = self.writer.written
        rate = (written.log_rows - opening_rows) / seconds
        return f"{written.log_rows:,} log rows, {rate:,.1f} a second, {written.commits:,} commits"

    def _report(self, seconds: float, opening_rows: int) -> SimulatorReport:
        written = self.writer.written
        return SimulatorReport(
            seconds=seconds,
            log_rows=written.log_rows,
            paced_rows=written.log_rows + written.updated_rows - opening_rows,
            equity_rows=written.equity_rows,
            fx_rows=written.fx_rows,
            updated_rows=written.updated_rows,
            odd_rows=written.odd_rows,
            refused_rows=written.refused_rows,
            commits=written.commits,
            worst_lag_seconds=self._worst_lag_seconds,
        )

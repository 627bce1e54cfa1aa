"""The trading platform of the benchmarks: accounts with open positions, and statements that move prices."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

POSITIONS: Final = 10

_COLUMNS: Final = """
id, user_id, mt5_position_id, symbol, direction, volume, entry_price, current_price, take_profit, stop_loss,
matched, event_type, status, created_at, updated_at
"""
_VALUES: Final = "0.1, 1950.5, {price}, 1990, 1900, 1, 'sync', 'success', {at}, {at}"
_OPEN: Final = f"""
INSERT INTO reconciliation_logs ({_COLUMNS})
SELECT gen_random_uuid(), u, 1000 + n, 'XAUUSD', 'buy', {_VALUES.format(price="1955.75", at="now()")}
FROM unnest($1::uuid[]) AS u, generate_series(1, {POSITIONS}) AS n
"""
_EQUITY: Final = """
INSERT INTO equity_snapshots (user_id, equity, balance, currency)
SELECT u, 9500, 10000, 'USD' FROM unnest($1::uuid[]) AS u
"""
#: A price of one account's position moves: what a reconciliation loop writes most.
MOVE: Final = f"""
INSERT INTO reconciliation_logs ({_COLUMNS})
VALUES (gen_random_uuid(), $1, $2, 'XAUUSD', 'buy', {_VALUES.format(price="$3", at="now()")})
"""
#: One price of every account moves in one statement.
MOVE_ALL: Final = f"""
INSERT INTO reconciliation_logs ({_COLUMNS})
SELECT gen_random_uuid(), u, 1001, 'XAUUSD', 'buy', {_VALUES.format(price="$2", at="now()")}
FROM unnest($1::uuid[]) AS u
"""
#: The same hints without any row behind them, for the floor.
FLOOR_MOVE: Final = "SELECT pg_notify('floor', $1::uuid::text || '=' || $2::bigint)"
FLOOR_MOVE_ALL: Final = """
SELECT pg_notify('floor', string_agg(u || '=' || $2::bigint, ','))
FROM (SELECT u, row_number() OVER () / 100 AS part FROM unnest($1::uuid[]) AS u) AS parts GROUP BY part
"""
_HISTORY: Final = f"""
INSERT INTO reconciliation_logs ({_COLUMNS})
SELECT gen_random_uuid(), $1, 1001 + n % {POSITIONS}, 'XAUUSD', 'buy',
       {_VALUES.format(price="1950 + n % 100", at="now() - make_interval(secs => n)")}
FROM generate_series(1, $2) AS n
"""

#: Prices are numbered through, so that a frame says which statement it shows.
prices = itertools.count(2000)


async def make_accounts(connection: Any, count: int) -> list[UUID]:
    """Accounts with ten open positions and a known equity each, through the capture."""
    users = [uuid4() for _ in range(count)]
    for start in range(0, count, 100):
        await connection.execute(_OPEN, users[start : start + 100])
        await connection.execute(_EQUITY, users[start : start + 100])
    return users


async def make_long_account(connection: Any, log_rows: int) -> UUID:
    """An account whose log has ``log_rows`` rows; the older ones are put there past the capture.

    That is quick, and leaves what an evaluation reads as it would be.
    """
    (user,) = await make_accounts(connection, 1)
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(_HISTORY, user, log_rows)
    return user


async def settle(connection: Any) -> None:
    """Let no housekeeping of PostgreSQL's own fall into what is measured next."""
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")


class Commits:
    """Writers at full speed."""

    def __init__(self, database_url: str, *, writers: int) -> None:
        self._database_url = database_url
        self._writers = writers
        self.deadlocks = 0

    async def per_second(self, users: Sequence[UUID], seconds: float) -> float:
        """Commits a second of one moved price each."""
        loop = asyncio.get_running_loop()
        connections = [await asyncpg.connect(self._database_url) for _ in range(self._writers)]
        try:
            end = loop.time() + seconds
            done = await asyncio.gather(
                *(
                    self._write(connection, users[n :: self._writers], end)
                    for n, connection in enumerate(connections)
                )
            )
            return sum(done) / (loop.time() - end + seconds)
        finally:
            for connection in connections:
                await connection.close()

    async def _write(self, connection: Any, users: Sequence[UUID], end: float) -> int:
        loop, done = asyncio.get_running_loop(), 0
        for user in itertools.cycle(users):
            if loop.time() >= end:
                break
            try:
                await connection.execute(MOVE, user, 1001 + done % POSITIONS, next(prices))
            except asyncpg.DeadlockDetectedError:
                self.deadlocks += 1
            done += 1
        return done

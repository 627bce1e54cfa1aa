"""The trading platform of the benchmarks: accounts with open positions, and statements that move prices."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any, Final
from uuid import UUID

from tests.inbox import apply_inbox

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
#: Moves the price of one position of an account, which is what a reconciliation loop writes most.
MOVE: Final = f"""
INSERT INTO reconciliation_logs ({_COLUMNS})
VALUES (gen_random_uuid(), $1, $2, 'XAUUSD', 'buy', {_VALUES.format(price="$3", at="now()")})
"""
#: One equity row of an account, as a loop reports it beside the prices; no guard changes its level.
EQUITY_MOVE: Final = """
INSERT INTO equity_snapshots (user_id, equity, balance, currency) VALUES ($1, 9500 + $2::integer % 100, 10000, 'USD')
"""
#: Moves one price of every account in one statement.
MOVE_ALL: Final = f"""
INSERT INTO reconciliation_logs ({_COLUMNS})
SELECT gen_random_uuid(), u, 1001, 'XAUUSD', 'buy', {_VALUES.format(price="$2", at="now()")}
FROM unnest($1::uuid[]) AS u
"""
#: The same notifications without any row, for the floor.
FLOOR_MOVE: Final = "SELECT pg_notify('floor', $1::uuid::text || '=' || $2::bigint)"
FLOOR_MOVE_ALL: Final = """
SELECT pg_notify('floor', string_agg(u || '=' || $2::bigint, ','))
FROM (SELECT u, row_number() OVER () / 100 AS part FROM unnest($1::uuid[]) AS u) AS parts GROUP BY part
"""
#: Otherwise each platform would become silent a minute after its last row, which changes every account during the
#: measurement.
GRACE_OF_A_DAY: Final = """
INSERT INTO guard_limits (user_id, sync_overdue_seconds) SELECT unnest($1::uuid[]), 86400
"""
_HISTORY: Final = f"""
INSERT INTO reconciliation_logs ({_COLUMNS})
SELECT gen_random_uuid(), $1, 1001 + n % {POSITIONS}, 'XAUUSD', 'buy',
       {_VALUES.format(price="1950 + n % 100", at="now() - make_interval(secs => n)")}
FROM generate_series(1, $2) AS n
"""

#: Prices are numbered, so that a frame shows which statement it belongs to.
prices = itertools.count(2000)


#: Numbers of accounts that do not collide with those of `tests/benchmarks/ground.py`, which begin at 0.
_further_accounts = itertools.count(1_000_000)


def account(number: int) -> UUID:
    """The account with that number; pgbench's scripts compute the same with ``md5(number)::uuid``."""
    return UUID(hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest())


async def make_accounts(connection: Any, count: int) -> list[UUID]:
    """Make accounts with ten open positions and a known equity each, and apply their rows."""
    users = [account(number) for number in itertools.islice(_further_accounts, count)]
    await write_accounts(connection, users)
    await apply_inbox(connection)
    return users


async def write_accounts(connection: Any, users: list[UUID]) -> None:
    """Write the platform's rows of new accounts, also in a database without Guardwire."""
    for start in range(0, len(users), 100):
        await connection.execute(_OPEN, users[start : start + 100])
        await connection.execute(_EQUITY, users[start : start + 100])


async def make_long_account(connection: Any, log_rows: int) -> UUID:
    """Make an account whose log has ``log_rows`` rows; the older ones are written past the trigger.

    That is quick, and an evaluation reads the same tables afterwards.
    """
    (user,) = await make_accounts(connection, 1)
    async with connection.transaction():
        await connection.execute("ALTER TABLE reconciliation_logs DISABLE TRIGGER guardwire_copy")
        await connection.execute(_HISTORY, user, log_rows)
        await connection.execute("ALTER TABLE reconciliation_logs ENABLE ALWAYS TRIGGER guardwire_copy")
    return user


async def settle(connection: Any) -> None:
    """Run PostgreSQL's own housekeeping now, so that it does not run during the next measurement."""
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")

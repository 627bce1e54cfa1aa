"""The cost of reading an account depends on its open positions, and not on its history."""

from __future__ import annotations

import time
from uuid import UUID

import asyncpg

from queries.channels import LIVE_QUERIES
from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import Ground
from tests.benchmarks.platform import make_long_account, settle

_EVALUATIONS = 300


async def measure(ground: Ground) -> list[Figure]:
    """One evaluation for each length of the log, against the shortest."""
    shortest, *longer = ground.scale.log_rows
    accounts = {rows: await make_long_account(ground.connection, rows) for rows in ground.scale.log_rows}
    await settle(ground.connection)
    taken: dict[int, list[float]] = {rows: [] for rows in accounts}
    settings = {
        "jit": "off",
        "plan_cache_mode": "force_generic_plan",
    }  # the settings of the server's own connections
    connection = await asyncpg.connect(ground.database_url, server_settings=settings)
    try:
        for _ in range(max(7, ground.scale.samples) + 1):
            for rows, user in accounts.items():
                taken[rows].append(await _evaluation_us(connection, user))
    finally:
        await connection.close()
    return [
        Figure(
            name=f"evaluation, {rows:,} log rows against {shortest:,}",
            unit="µs",
            ours=taken[rows][1:],
            reference=taken[shortest][1:],
            target=1.2,
        )
        for rows in longer
    ]


async def _evaluation_us(connection: asyncpg.Connection, user: UUID) -> float:
    begun = time.perf_counter()
    for _ in range(_EVALUATIONS):
        await LIVE_QUERIES.evaluate(connection, [user])
    return (time.perf_counter() - begun) / _EVALUATIONS * 1e6

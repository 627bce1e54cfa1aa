"""Thousands of clients, which take less memory than bots: of each only its position is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from tests.end_to_end.load_clients import load_clients
from tests.faults.platform import people
from tests.faults.stage import Stage
from tests.inbox import wait_for_empty_inbox

_CLIENTS: Final = 5_000
_AT_ONCE: Final = 500
#: Beyond the numbers of all bots.
_FIRST_NUMBER: Final = 100_000
_FRESH_SECONDS: Final = 15.0
_PATIENCE_SECONDS: Final = 60.0
_EVALUATIONS: Final = "guardwire_evaluations_total"


async def homeless(stage: Stage) -> None:
    """Kill a node with five thousand clients, which then all come to another node at once."""
    owners = people(_CLIENTS, stage.random, first=_FIRST_NUMBER)
    users = [owner.user_id for owner in owners]
    await stage.rest()
    async with stage.ground.connection() as connection:
        await _sync(connection, users)
        await wait_for_empty_inbox(connection, timeout_seconds=_PATIENCE_SECONDS)
        newest = dict(await connection.fetch("SELECT user_id, revision FROM guardwire.accounts"))
    victim, other = (site.node for site in stage.sites[:2])
    async with load_clients([stage.ground.token(owner) for owner in owners]) as clients:
        await clients.arrive(f"http://127.0.0.1:{victim.port}", seconds=_PATIENCE_SECONDS)
        before = await other.metric(_EVALUATIONS)
        code = await victim.kill()
        stage.leases_may_run_out = True
        arrival = await clients.arrive(f"http://127.0.0.1:{other.port}", seconds=_PATIENCE_SECONDS)
        reads = await other.metric(_EVALUATIONS) - before
    await victim.start()
    stage.healed()
    stage.proves(f"the process ended by signal {-code}, under {len(users):,} clients", code == -9)
    stage.figure("all fresh elsewhere", arrival.seconds, _FRESH_SECONDS)
    # The bots of that node come too.
    stage.figure("reads of an account", reads / (len(users) + len(stage.bots)), 1, "")
    strays = sum(held != newest[user_id] for user_id, held in zip(users, arrival.revisions, strict=True))
    stage.figure("at another revision", strays, 0, f"of {len(users):,}")


async def _sync(connection: Any, users: Sequence[UUID]) -> None:
    """Write one position for each owner."""
    for start in range(0, len(users), _AT_ONCE):
        await connection.execute(
            """INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, direction, volume,
                                                entry_price, current_price, matched, event_type)
               SELECT owner, 1, 'XAUUSD', 'buy', 0.1, 1950.50, 1955.75, 1, 'sync'
               FROM unnest($1::uuid[]) AS owner""",
            users[start : start + _AT_ONCE],
        )

"""Faults of the applier: killed, frozen, cut off, behind with its work, and away for a minute."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import asyncpg

from tests.end_to_end import tables
from tests.faults.ground import Site
from tests.faults.platform import people
from tests.faults.stage import Stage
from tests.machine import slowness_of_a_process

#: Another node must apply rows within this time after the applier is gone, and clients must notice a longer gap.
_REPLACED_SECONDS: Final = 3.0
_BEFORE_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 60.0
_KILLS: Final = 3
_FROZEN_SECONDS: Final = 6.0
_OTHERS: Final = 1_000
#: Beyond the numbers of all bots.
_FIRST_NUMBER: Final = 200_000
_BACKLOG_ROWS: Final = 100_000
_BACKLOG_SECONDS: Final = 20.0
_FRESH_SECONDS: Final = 1.0
#: A small platform writes as many rows in an hour. Each leaves a dead row in the inbox until a vacuum may remove it.
_HOUR_ROWS: Final = 40_000
_ROWS_AT_ONCE: Final = 4
_SCANS: Final = 21
_SCAN_MS: Final = 3.0
#: Rows that waited for less than a minute are no backlog that has to be reported.
_NIGHT_SECONDS: Final = 65.0
#: After many failures a client waits for up to 30 s before it tries again.
_MORNING_SECONDS: Final = 45.0

_PROGRESS: Final = """
SELECT l.term, (SELECT max(a.revision) FROM guardwire.accounts AS a WHERE a.user_id = ANY ($1)) AS revision
FROM guardwire.applier AS l WHERE l.shard = 0
"""
_NOW: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_SYNC_OTHERS: Final = """
INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, direction, volume, entry_price, current_price,
                                 matched, event_type)
SELECT owner, 1, 'XAUUSD', 'buy', 0.1, 1950.50, 1900 + n % 100, 1, 'sync'
FROM generate_series(1, $2::integer) AS n, unnest($1::uuid[]) AS owner
"""
_SCAN: Final = """
SELECT nth FROM guardwire.inbox WHERE nth > guardwire.scan_from()
ORDER BY nth LIMIT 1000
"""
_DEAD_ROWS: Final = """
SELECT n_dead_tup FROM pg_stat_user_tables WHERE schemaname = 'guardwire' AND relname = 'inbox'
"""
_WAITING: Final = "SELECT EXISTS (SELECT FROM guardwire.inbox WHERE account = ANY ($1))"
_SILENT: Final = "SELECT count(*) FROM guardwire.accounts WHERE user_id = ANY ($1) AND source = 'silent'"


async def killed(stage: Stage) -> None:
    """Kill the applier's node with SIGKILL three times, at random points of its work."""
    stage.leases_may_run_out = True
    bound = await bound_of(stage)
    slowest = await kill_appliers(stage, times=_KILLS)
    stage.healed()
    stage.figure("another applies", slowest, bound)


async def kill_appliers(stage: Stage, *, times: int) -> float:
    """Kill the applier's node with SIGKILL at random points of its work; the most seconds until another one applied."""
    slowest, codes = 0.0, []
    for _ in range(times):
        await stage.watch(_BEFORE_SECONDS + stage.random.random())
        victim, term = await stage.ground.leader()
        at_us = await now_us(stage)
        codes.append(await victim.node.kill())
        slowest = max(slowest, await another_applies(stage, term, at_us))
        await victim.node.start()
        await stage.crowd.until_all_fresh()
    stage.proves(f"the appliers ended with {codes}, while 40 commits came a second", codes == [-9] * times)
    return slowest


async def stopped(stage: Stage) -> None:
    """Stop the applier's node with SIGSTOP between two batches; it continues when another node has long been the
    applier.
    """

    async def freeze(site: Site) -> None:
        site.node.send(signal.SIGSTOP)

    await _frozen(stage, freeze)


async def stopped_in_batch(stage: Stage) -> None:
    """Stop the applier's node with SIGSTOP between a batch and its COMMIT, so that a transaction and its locks stay
    open.
    """

    async def freeze(site: Site) -> None:
        # The stopped process never reads the answer.
        with contextlib.suppress(TimeoutError):
            await site.node.ask("freeze_in_batch")

    await _frozen(stage, freeze)


async def _frozen(stage: Stage, freeze: Callable[[Site], Awaitable[None]]) -> None:
    stage.leases_may_run_out = True
    bound = await bound_of(stage)
    victim, term = await stage.ground.leader()
    await _send_away(stage, victim)
    at_us = await now_us(stage)
    await freeze(victim)
    try:
        await stage.until(lambda: _is_stopped(victim), seconds=10)
        state = victim.node.state
        stage.figure("another applies", await another_applies(stage, term, at_us), bound)
        refused = await _refusal(stage, term)
        await stage.watch(_FROZEN_SECONDS)
        _, later = await stage.ground.leader()
    finally:
        victim.node.send(signal.SIGCONT)
    back = await stage.until(lambda: _follows(victim), seconds=_PATIENCE_SECONDS)
    # A batch that was incomplete when the process was stopped would take effect now.
    await stage.watch(2 * _REPLACED_SECONDS)
    _, last = await stage.ground.leader()
    stage.healed()
    stage.proves(
        f"the kernel said {state!r} of the node with term {term}; a batch of that term ends in {refused}",
        state == "T" and refused == "GW001",
    )
    stage.figure("follows when it is back", back, bound)
    stage.figure("terms after that", last - later, 0, "")


async def cut_off(stage: Stage) -> None:
    """Make the applier's connection to PostgreSQL silent, so that neither end notices."""
    bound = await bound_of(stage)
    await stage.watch(_BEFORE_SECONDS)
    victim, term = await stage.ground.leader()
    at_us = await now_us(stage)
    victim.listener.go_silent("up", "down")
    carried = victim.listener.carried_bytes
    replaced = await another_applies(stage, term, at_us)
    await stage.watch(_FROZEN_SECONDS)
    still = victim.listener.carried_bytes
    victim.listener.go_silent()
    stage.healed()
    stage.proves(
        f"{len(victim.listener.ends)} ends are open, and carried nothing more",
        bool(victim.listener.ends) and still["down"] <= carried["down"],
    )
    stage.figure("another applies", replaced, bound)


async def terminated(stage: Stage) -> None:
    """End the applier's backend with pg_terminate_backend, twenty times in three seconds."""
    await bound_of(stage)
    await stage.watch(_BEFORE_SECONDS)
    ended = 0
    _, term = await stage.ground.leader()
    async with stage.ground.connection() as connection:
        for _ in range(20):
            ended += await connection.fetchval(
                "SELECT count(*) FROM guardwire.applier AS l, pg_terminate_backend(l.backend_pid) AS was WHERE was"
            )
            await asyncio.sleep(0.15)
    stage.healed()
    _, later = await stage.ground.leader()
    stage.proves(f"{ended} backends terminated, {later - term} terms later", ended > 0 and later > term)


async def backlog(stage: Stage) -> None:
    """Write 100,000 rows of 1,000 accounts at once; rows of other accounts are applied meanwhile."""
    factor = await slowness_of_a_process()
    stage.misled_seconds = _REPLACED_SECONDS * factor
    users = [owner.user_id for owner in people(_OTHERS, stage.random, first=_FIRST_NUMBER)]
    async with stage.ground.connection() as connection:
        # Half of the rows come in one transaction, as from COPY; the rest are loops that no applier has applied.
        await connection.execute(_SYNC_OTHERS, users, _BACKLOG_ROWS // _OTHERS // 2)
        for _ in range(_BACKLOG_ROWS // _OTHERS // 2):
            await connection.execute(_SYNC_OTHERS, users, 1)
        began = time.monotonic()
        waiting = await connection.fetchval("SELECT count(*) FROM guardwire.inbox")
        seconds = await _until_applied(stage, connection, users)
    stage.healed()
    stage.proves(f"{waiting:,} rows waited", waiting > _BACKLOG_ROWS // 4)
    stage.figure("applied", seconds, _BACKLOG_SECONDS * factor)
    stage.figure(
        "p99 of others' pushes meanwhile",
        stage.crowd.latency_ms(0.99, since=began) / 1000,
        _FRESH_SECONDS * factor,
    )


async def long_transactions(stage: Stage) -> None:
    """Keep a snapshot and a writing transaction open while as many rows pass as in an hour."""
    factor = await slowness_of_a_process()
    stage.misled_seconds = _REPLACED_SECONDS * factor
    await stage.watch(3)
    before_ms = stage.crowd.latency_ms(0.5, since=time.monotonic() - 3)
    owner = stage.random.choice(stage.platform.owners)
    users = [each.user_id for each in people(_OTHERS, stage.random, first=_FIRST_NUMBER)]
    async with (
        _reader(stage),
        _writer(stage, owner) as (transaction, row),
        stage.ground.connection() as connection,
    ):
        for _ in range(_HOUR_ROWS // _OTHERS // _ROWS_AT_ONCE):
            await connection.execute(_SYNC_OTHERS, users, _ROWS_AT_ONCE)
            await _until_applied(stage, connection, users)
        scan_ms = await _scan_ms(connection)
        began = time.monotonic()
        await stage.watch(5)
        after_ms = stage.crowd.latency_ms(0.5, since=began)
        await transaction.commit()
        committed_at = time.monotonic()
    stage.healed()
    await stage.crowd.until(
        lambda bot: bot.owner is not owner or str(row.ticket) in bot.state["positions"]["open"], seconds=20
    )
    shown = time.monotonic() - committed_at
    dead = await _dead_rows(stage)
    stage.proves(f"{dead:,} dead rows in the inbox that no vacuum could remove", dead > _HOUR_ROWS // 2)
    stage.figure("a scan of the inbox for new rows", scan_ms, _SCAN_MS * factor, "ms")
    stage.figure("p50 of a push afterwards, against before", after_ms / before_ms, 2 * factor, "times")
    stage.figure("the late row is shown", shown, _REPLACED_SECONDS)


async def _scan_ms(connection: Any) -> float:
    """Median time in which the applier finds that (nearly) nothing waits."""
    taken = []
    for _ in range(_SCANS):
        began = time.perf_counter()
        await connection.fetch(_SCAN)
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


async def _dead_rows(stage: Stage) -> int:
    async with stage.ground.connection() as connection:
        return int(await connection.fetchval(_DEAD_ROWS))


async def night(stage: Stage) -> None:
    """Stop all nodes for more than a minute while the platform trades, and then start all at once."""
    stage.leases_may_run_out = True
    stage.right_again_seconds = _MORNING_SECONDS
    stage.misled_seconds = _REPLACED_SECONDS * await slowness_of_a_process()
    users = [owner.user_id for owner in stage.platform.owners]
    await asyncio.gather(*(site.node.kill() for site in stage.sites))
    sizes = [site.node.log.stat().st_size for site in stage.sites]
    await stage.watch(_NIGHT_SECONDS)
    async with stage.ground.connection() as connection:
        waiting = await connection.fetchval("SELECT count(*) FROM guardwire.inbox")
        starting = asyncio.gather(*(site.node.start() for site in stage.sites))
        silent, began = 0, time.monotonic()
        while await connection.fetchval(
            "SELECT EXISTS (SELECT FROM guardwire.inbox WHERE arrived_at < $1)", await _ago(connection)
        ):
            silent = max(silent, await connection.fetchval(_SILENT, users))
            if time.monotonic() - began > _PATIENCE_SECONDS:
                break
            await asyncio.sleep(0.05)
        applied = time.monotonic() - began
        await starting
    stage.healed()
    await stage.watch(2)
    words = [
        site.node.log.read_bytes()[size:].decode(errors="replace")
        for site, size in zip(stage.sites, sizes, strict=True)
    ]
    reports = sum(text.count("a backlog of") for text in words)
    stage.proves(f"{waiting:,} rows waited for a node", waiting > 1000)
    stage.figure("applied after the start", applied, _BACKLOG_SECONDS * await slowness_of_a_process())
    stage.figure("accounts noted silent", silent, 0, "")
    stage.figure("reports of the backlog beside one", abs(reports - 1), 0, "")


async def _ago(connection: Any) -> Any:
    return await connection.fetchval("SELECT clock_timestamp() - interval '5 seconds'")


@contextlib.asynccontextmanager
async def _reader(stage: Stage) -> Any:
    """A transaction with an old snapshot, so that no dead row that it may see can be removed."""
    async with stage.ground.connection() as connection:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await connection.fetchval("SELECT count(*) FROM guardwire.accounts")
        yield


@contextlib.asynccontextmanager
async def _writer(stage: Stage, owner: Any) -> Any:
    """A transaction that has written a row of ``owner``, with a ticket of its own."""
    row = replace(
        stage.platform.marks.log_row(owner), event_type="sync", close_reason=None, error_message=None,
        ticket=owner.tickets[-1] + 100, matched=1,
    )  # fmt: skip
    async with stage.ground.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await tables.LOG.insert(connection, [row])
        yield transaction, row


async def bound_of(stage: Stage) -> float:
    """Set how long a change of appliers may take here, and how long it may mislead a client."""
    stage.misled_seconds = _REPLACED_SECONDS * await slowness_of_a_process()
    return stage.misled_seconds


async def now_us(stage: Stage) -> int:
    async with stage.ground.connection() as connection:
        return int(await connection.fetchval(_NOW))


async def another_applies(stage: Stage, term: int, at_us: int) -> float:
    """Seconds until rows of the platform's accounts were applied in a later term than ``term``."""
    users = [owner.user_id for owner in stage.platform.owners]
    began = time.monotonic()
    async with stage.ground.connection() as connection:
        while True:
            progress = await connection.fetchrow(_PROGRESS, users)
            if progress["term"] > term and progress["revision"] > at_us:
                return time.monotonic() - began
            if time.monotonic() - began > _PATIENCE_SECONDS:
                return float("inf")
            await asyncio.sleep(0.02)


async def _until_applied(stage: Stage, connection: Any, users: Sequence[UUID]) -> float:
    """Seconds until no row of ``users`` waits; infinite when some wait for too long."""

    async def is_applied() -> bool:
        return not await connection.fetchval(_WAITING, users)

    return await stage.until(is_applied, seconds=_PATIENCE_SECONDS)


async def _refusal(stage: Stage, term: int) -> str:
    """The SQLSTATE with which a batch of ``term`` fails; "" when it is applied."""
    async with stage.ground.connection() as connection:
        try:
            await connection.fetchrow("SELECT (guardwire.apply($1, 10)).applied", term)
        except asyncpg.PostgresError as error:
            return error.sqlstate or ""
    return ""


async def _send_away(stage: Stage, site: Site) -> None:
    """Move the bots of ``site`` to the other nodes, because clients of a frozen node are another fault."""
    others = [each.address for each in stage.sites if each is not site]
    for bot in stage.bots:
        bot.addresses = others
    site.front.cut()
    await stage.crowd.until_all_fresh()


async def _is_stopped(site: Site) -> bool:
    await asyncio.sleep(0)
    return site.node.state == "T"


async def _follows(site: Site) -> bool:
    """Whether the node answers and does not hold the lease."""
    return (
        "guardwire_applier_term" in (found := await site.node.metrics())
        and not found["guardwire_applier_term"]
    )

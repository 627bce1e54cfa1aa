"""The checks after every fault."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tests.faults import oracle
from tests.faults.findings import Figure, Findings
from tests.faults.ground import Ground, Site

if TYPE_CHECKING:
    from tests.faults.stage import Stage

_LATEST_SECONDS: Final = 60.0
#: Longer than a lease, because a lease that a node could not release ends by itself.
_TIDY_SECONDS: Final = 17.0
#: Connections that stay open once they were needed: 4 of the pool, the listener's, the applier's, and 16 of Redis.
_POOLED_FILES: Final = 4 + 1 + 1 + 16
_POOLED_CONNECTIONS: Final = 4 + 1 + 1
_LEASE_SECONDS: Final = 15
#: Alerts and messages that are due for longer are forgotten.
_SILENT_SECONDS: Final = 5.0
#: The signature at the end of a token. It is as secret as the token, and occurs in no other text.
_SIGNATURE_CHARACTERS: Final = 20

#: Close codes for a fault of a client or of a server; no bot ever deserves one.
_UNDESERVED: Final = {"1002", "1003", "1007", "1009", "1011", "4001", "4008", "4029", "4400", "4401", "4403"}

# Counts the rows of these users that were never applied, applied more than once, or set aside.
_COUNTED: Final = """
WITH written AS (
    SELECT id, 'l' AS source FROM reconciliation_logs WHERE user_id = ANY ($1)
    UNION ALL SELECT id, 'e' FROM equity_snapshots WHERE user_id = ANY ($1)
), applied AS (
    SELECT log_id AS id, source::text AS source, count(*) AS times
    FROM guardwire.arrivals WHERE user_id = ANY ($1) AND inserted GROUP BY log_id, source
)
SELECT count(*) FILTER (WHERE times IS NULL) AS lost, count(*) FILTER (WHERE times > 1) AS doubled,
       (SELECT count(*) FROM guardwire.set_aside) AS set_aside
FROM written LEFT JOIN applied USING (id, source)
"""
#: Over all faults: breaches that stand without an alert; alerts that escalated although they were acknowledged and the
#: hold was not over; and alerts that nobody acknowledged and that time has passed by.
_ALERTS: Final = """
SELECT (SELECT count(*) FROM guardwire.alerts) AS raised,
       (SELECT count(*) FROM guardwire.breaches AS b
        WHERE b.cleared_at IS NULL AND NOT EXISTS (
            SELECT FROM guardwire.alerts AS a WHERE a.user_id = b.user_id AND a.stands)) AS lost,
       (SELECT count(*) FROM guardwire.alert_log AS e
        WHERE e.entry = 'escalated' AND e.detail ->> 'reason' = 'nobody acknowledged' AND EXISTS (
            SELECT FROM guardwire.alert_log AS k
            WHERE k.alert_id = e.alert_id AND k.generation = e.generation AND k.entry = 'acknowledged'
              AND k.log_id < e.log_id
              AND NOT EXISTS (SELECT FROM guardwire.alert_log AS o
                              WHERE o.alert_id = e.alert_id AND o.log_id > k.log_id AND o.log_id < e.log_id
                                AND (o.entry = 'repeated' OR o.entry = 'raised'
                                     OR o.detail ->> 'reason' LIKE 'positions are open%')))) AS escalated,
       (SELECT count(*) FROM guardwire.alerts AS a
        WHERE a.resolved_at IS NULL AND a.acknowledged_at IS NULL
          AND a.next_at < clock_timestamp() - make_interval(secs => $1))
       + (SELECT count(*) FROM guardwire.deliveries AS d
          WHERE d.finished_at IS NULL AND d.due_at < clock_timestamp() - make_interval(secs => $1)) AS silent
"""
_LEFT_IN_DATABASE: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name LIKE 'guardwire%' AND ($1 OR state LIKE 'idle in transaction%')
"""


async def right_again(stage: Stage) -> None:
    """Wait until every client shows the platform's last commit, with the bound after the end of the fault."""
    revisions = await stage.platform.final_word()
    try:
        await stage.crowd.until_all_at(revisions, seconds=_LATEST_SECONDS)
    except TimeoutError as error:
        stage.broken(f"left stale: {error}")
    stage.figure("right again", time.monotonic() - stage.healed_at, stage.right_again_seconds)


async def states(stage: Stage) -> None:
    """Compare the state of every bot with the raw log, and the bots of one account with each other."""
    wrong = 0
    async with stage.ground.connection() as connection:
        instruments = await oracle.known_instruments(connection)
        since = datetime.now(UTC)
        for bot in stage.bots:
            found = await oracle.differences(
                connection, instruments, bot.owner.user_id, bot.state, since=since
            )
            wrong += bool(found)
            if found and wrong < 4:
                stage.broken(f"{bot.owner}: {found[0]}")
            # The bots go on meanwhile.
            await asyncio.sleep(0)
    stage.figure("wrong", wrong, 0, f"of {len(stage.bots)}")


async def rows(stage: Stage) -> None:
    """Check that every row of the platform was applied exactly once."""
    users = [owner.user_id for owner in stage.platform.owners]
    async with stage.ground.connection() as connection:
        counted = await connection.fetchrow(_COUNTED, users)
    stage.figure("rows lost", counted["lost"], 0, "")
    stage.figure("applied twice", counted["doubled"], 0, "")
    if counted["set_aside"]:
        stage.broken(f"{counted['set_aside']} rows could not be applied")


def promises(stage: Stage) -> None:
    """Collect the broken promises that the bots saw."""
    for code, count in stage.crowd.counted("ends").items():
        if code in _UNDESERVED:
            stage.broken(f"{count} streams of good clients were closed with {code}")
    for bot in stage.bots:
        for text in bot.broken[:2]:
            stage.broken(f"bot {bot.owner.number}: {text}")
        if bot.waits_for_snapshot:
            stage.broken(f"bot {bot.owner.number}: a gap, and no snapshot for it")
    stage.figure("misled", stage.crowd.misled_seconds, stage.misled_seconds)
    for site in stage.sites:
        for text in secrets_in(stage.ground, site):
            stage.broken(text)


async def leaks(stage: Stage) -> None:
    """Check that every node and server is as it was before the first client, now that no client is left."""
    deadline = time.monotonic() + _TIDY_SECONDS
    while True:
        left = [line async for line in _left(stage)]
        if not left or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.2)
    stage.findings.broken += left
    stage.figure("left behind", len(left), 0, "")


async def _left(stage: Stage) -> Any:
    for site in stage.sites:
        report = await site.node.ask("report")
        for line in _left_in_process(report, stage.ground.fixed[site.node.name]):
            yield f"node {site.node.name}: {line}"
        if sockets := await site.node.metric("guardwire_sockets"):
            yield f"node {site.node.name}: counts {sockets:g} sockets"
    async with stage.ground.connection() as connection:
        allowed = len(stage.sites) * _POOLED_CONNECTIONS
        if (count := await connection.fetchval(_LEFT_IN_DATABASE, True)) > allowed:
            yield f"{count} connections to PostgreSQL"
        if count := await connection.fetchval(_LEFT_IN_DATABASE, False):
            yield f"{count} open transactions"
    # Leases that an earlier fault left end by themselves; `afterwards` checks that.
    ours = set() if stage.leases_may_run_out else set(stage.ground.holders[stage.first_holder :])
    async for line in _left_in_redis(stage.ground, ours):
        yield line


async def afterwards(ground: Ground, *, faults: int) -> Findings:
    """Check that Redis holds no lease when all have had time to end, and that every other key has an expiry."""
    began = time.monotonic()
    await asyncio.sleep(_LEASE_SECONDS + 1)
    findings = Findings("afterwards: nobody is connected, and leases have run out")
    left = [line async for line in _left_in_redis(ground, set(ground.holders))]
    async with ground.memory() as memory:
        keys = await memory.dbsize()
    findings.proofs.append(
        (f"{faults} faults were injected before, {keys} keys remain for a while", faults > 0)
    )
    findings.figures.append(Figure("leases and keys without end", len(left), 0, ""))
    findings.broken += left
    async with ground.connection() as connection:
        alerts = await connection.fetchrow(_ALERTS, _SILENT_SECONDS)
    unit = f"of {alerts['raised']}"
    findings.figures += [
        Figure("alerts lost", alerts["lost"], 0, unit),
        Figure("alerts acknowledged and then escalated", alerts["escalated"], 0, unit),
        Figure("alerts unacknowledged and silent", alerts["silent"], 0, unit),
    ]
    findings.seconds = time.monotonic() - began
    return findings


def _left_in_process(report: dict[str, Any], fixed: dict[str, Any]) -> Iterator[str]:
    if report["clients"]:
        yield f"{report['clients']} connections of clients"
    if report["files"] > fixed["files"] + _POOLED_FILES:
        yield f"{report['files']} open files, and {fixed['files']} before"
    for name, count in report["tasks"].items():
        if name in ("stream", "Task") and count > fixed["tasks"].get(name, 0) + 1:
            yield f"{count} tasks {name!r}, and {fixed['tasks'].get(name, 0)} before"
    for name, count in fixed["tasks"].items():
        if name not in ("stream", "Task") and report["tasks"].get(name) != count:
            yield f"{report['tasks'].get(name, 0)} tasks {name!r}, and {count} before"


async def _left_in_redis(ground: Ground, users: Collection[str]) -> Any:
    async with ground.memory() as memory:
        async for key in memory.scan_iter(count=1000):
            lives_seconds = await memory.ttl(key)
            if lives_seconds == -1:
                yield f"the key {key!r} lives for ever"
            elif b":connections:" in key and (
                key.decode().rpartition(":")[2] in users or lives_seconds > _LEASE_SECONDS
            ):
                yield f"the lease {key!r}"


def secrets_in(ground: Ground, site: Site) -> Iterator[str]:
    """Look for tokens and keys in the log of a node."""
    text = site.node.log.read_text(errors="replace")
    passwords = {url.partition("://")[2].rpartition("@")[0].rpartition(":")[2] for url in
                 (ground.database_url, ground.servers.redis_url)}  # fmt: skip
    for secret in [ground.secret, *passwords, *(token[-_SIGNATURE_CHARACTERS:] for token in ground.tokens)]:
        if secret in text:
            yield f"node {site.node.name} logged a secret: {secret[:6]}…"

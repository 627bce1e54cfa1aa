"""Faults by writers and strangers: late commits, forged notifications, and two nodes that read one account."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import asyncpg

from tests.end_to_end import tables
from tests.faults.bot import Bot
from tests.faults.stage import Stage

_CHANNEL: Final = "guardwire"
_LATE: Final = 12
_FLOOD: Final = 20_000
_SLOWEST_SECONDS: Final = 3.0


async def late(stage: Stage) -> None:
    """Transactions commit in the opposite order of their begin, with rows older than those that are shown."""
    stage.misled_seconds = _SLOWEST_SECONDS
    owners = stage.random.sample(stage.platform.owners, _LATE)
    connections, opened = [], []
    for owner in owners:
        connection = await asyncpg.connect(stage.ground.database_url)
        transaction = connection.transaction()
        await transaction.start()
        row = stage.platform.marks.log_row(owner)
        # A ticket of its own, half a minute ago: a reader by time would never look there again.
        row = replace(
            row, event_type="sync", close_reason=None, error_message=None, ticket=owner.tickets[-1] + 100,
            matched=1,
            created_at=datetime.now(UTC) - timedelta(seconds=30),
        )  # fmt: skip
        await tables.LOG.insert(connection, [row])
        connections.append(connection)
        opened.append((owner, row, transaction))
    await stage.watch(2)
    shown = {bot.owner.user_id: bot for bot in stage.bots}
    early = sum(
        str(row.ticket) not in shown[owner.user_id].state["positions"]["open"] for owner, row, _ in opened
    )
    for _, _, transaction in reversed(opened):
        await transaction.commit()
    committed_at = time.monotonic()
    stage.healed()
    await stage.crowd.until(
        lambda bot: all(
            str(row.ticket) in bot.state["positions"]["open"]
            for owner, row, _ in opened
            if owner is bot.owner
        ),
        seconds=20,
    )
    stage.proves(f"{early} rows of {_LATE} were 30 s old when committed", early == _LATE)
    stage.figure("all shown", time.monotonic() - committed_at, _SLOWEST_SECONDS)
    for connection in connections:
        await connection.close()


async def notifications(stage: Stage) -> None:
    """Forged, garbled, repeated and endless notifications; each may cause a read, and nothing else."""
    stage.misled_seconds = _SLOWEST_SECONDS
    heard: Counter[str] = Counter()
    ears, mouth = (
        await asyncpg.connect(stage.ground.database_url),
        await asyncpg.connect(stage.ground.database_url),
    )
    await ears.add_listener(
        _CHANNEL, lambda *args: heard.update(["strange" if "#" in str(args[3]) else "known"])
    )
    evaluated = await _counted(stage, "guardwire_evaluations_total")
    forged = await _counted(stage, "guardwire_forged_notifications_total")
    began = time.monotonic()
    for payload in _strange(stage):
        await mouth.execute("SELECT pg_notify($1, $2)", _CHANNEL, payload)
    await mouth.execute(
        "SELECT pg_notify($1, $2::text || '=' || (4611686018427387904 + n)::text || ',#')"
        " FROM generate_series(1, $3::integer) AS n",
        _CHANNEL, str(stage.platform.owners[0].user_id), _FLOOD,
    )  # fmt: skip
    await stage.watch(3)
    known = [str(bot.owner.user_id) + f"={bot.revision}" for bot in stage.bots]
    for _ in range(50):  # every true notification, fifty times
        await mouth.execute("SELECT pg_notify($1, $2)", _CHANNEL, ",".join([*known[:100], "#"]))
    await stage.watch(2)
    # Wake-ups without rows, and deltas with the right channel name and without the right secret.
    await mouth.execute(
        "SELECT pg_notify('guardwire_inbox', n::text) FROM generate_series(1, $1::integer) AS n", _FLOOD
    )
    for payload in _deltas(stage):
        await mouth.execute("SELECT pg_notify(delta_channel, $1) FROM guardwire.configuration", payload)
    await stage.watch(2)
    read = await _counted(stage, "guardwire_evaluations_total") - evaluated
    refused = await _counted(stage, "guardwire_forged_notifications_total") - forged
    stage.healed()
    stage.proves(
        f"our own listener heard {heard['strange']}, {read:.0f} accounts were read, {refused:.0f} deltas refused",
        heard["strange"] >= _FLOOD and read > 0 and refused >= len(stage.sites) * len(_deltas(stage)),
    )
    stage.figure("slowest push", stage.crowd.latency_ms(1.0, since=began) / 1000, _SLOWEST_SECONDS)
    await ears.close()
    await mouth.close()


def _strange(stage: Stage) -> list[str]:
    owners = [str(owner.user_id) for owner in stage.platform.owners]
    return [
        "#", "#=", "=#", ",,,#", "canary=#", f"{owners[0]}=#", f"#{owners[0]}=1", f"{owners[0]}=-1,#",
        f"{owners[1]}=0,#", f"{owners[1]}=99999999999999999999999999,#", f"{owners[2]}={'9' * 7000},#",
        f"{owners[3]}=1e9,#", f"{uuid4()}={2**52},#", "\u2028#=\u0660", f"{owners[4]}=\u0661\u0662,#",
        *(f"{owner}={2**60},#" for owner in owners[:20]),
    ]  # fmt: skip


def _deltas(stage: Stage) -> list[str]:
    """Deltas that would follow on the clients' state, but for their authentication codes."""
    return [
        f"{code}#1 {bot.owner.user_id} {bot.revision} {bot.revision + 1} 666 1 1 1 1 1 1 1 1"
        for bot in stage.bots[:20]
        for code in ("0" * 32, "", "f" * 31)
    ]


async def _counted(stage: Stage, name: str) -> float:
    return sum([await site.node.metric(name) for site in stage.sites])


async def race(stage: Stage) -> None:
    """Hold one node between the read of an account and its store, while another node reads and stores a later state."""
    slow, quick = stage.sites[:2]
    bots = stage.crowd.on(slow.address)
    # The same accounts, each with a client at both nodes.
    more = [
        Bot(bot.owner, stage.ground.token(bot.owner), [quick.address], stage.platform.marks) for bot in bots
    ]
    stage.crowd.join(more)
    await stage.crowd.until_all_fresh()
    before = await slow.node.metric('guardwire_snapshot_commits_total{result="not_newer"}')
    await stage.rest()
    owners = [bot.owner for bot in bots]
    await slow.node.ask("hold")
    await stage.platform.commit(owners)
    await stage.until(lambda: _is_held(slow), seconds=5)
    await stage.platform.commit(owners)
    await stage.crowd.until(
        lambda bot: bot not in more or bot.serial >= stage.platform.last_serial(bot.owner), seconds=5
    )
    await stage.watch(0.5)
    held, newer = (await slow.node.ask("report"))["held"], await _remembered(stage)
    await slow.node.ask("release")
    stage.healed()
    await stage.until(lambda: _was_refused(slow, before), seconds=5)
    refused = await slow.node.metric('guardwire_snapshot_commits_total{result="not_newer"}') - before
    stage.proves(
        f"{held} reads of one node were held while others stored; of its writes {refused:.0f} were refused",
        held > 0 and refused > 0 and bool(bots),
    )
    later = await _remembered(stage)
    back = sum(later.get(key, position) < position for key, position in newer.items())
    stage.figure("went back in Redis", back, 0, f"of {len(newer)}")


async def _is_held(site: Any) -> bool:
    return bool((await site.node.ask("report"))["held"])


async def _was_refused(site: Any, before: float) -> bool:
    return bool(await site.node.metric('guardwire_snapshot_commits_total{result="not_newer"}') > before)


async def _remembered(stage: Stage) -> dict[str, tuple[int, int]]:
    """The position of every account in Redis."""
    found = {}
    async with stage.ground.memory() as memory:
        async for key in memory.scan_iter("*:snapshot", count=1000):
            epoch, revision = await memory.hmget(key, "epoch", "revision")
            found[key] = int(epoch), int(revision)
    return found

"""Faults of alerts: deliverers killed, targets that misbehave, acknowledgements that race, a database away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx

from queries.alert_calls import (
    EVERY_ACCOUNT,
    Beat,
    beat,
    list_endpoints,
    put_endpoint,
    put_escalation,
    read_escalation,
)
from tests.end_to_end.marks import Owner
from tests.escalation.receiver import Answer, Receiver, dripping, hanging, saying
from tests.faults.ground import Site
from tests.faults.platform import AWAY, people
from tests.faults.stage import Stage
from tests.machine import slowness_of_a_process
from tests.queries.database_writer import DatabaseWriter

#: Numbers of owners that no bot has.
_FIRST_OWNER: Final = 100_000
#: Level 1 at once, and no level after it while a fault lasts.
_AT_ONCE: Final = {"webhook_after_seconds": 0, "people_after_seconds": 3600}
_SENT_SECONDS: Final = 10.0
_RACERS: Final = 10
#: Long enough for acknowledgements on a busy machine.
_RACE_SECONDS: Final = 8
_RETRY_AFTER_SECONDS: Final = 3
_ARMED: Final = 200
_LEASE_SECONDS: Final = 5.0
_GRACE_SECONDS: Final = 5
#: Longer than the lease and the grace of every armed account.
_AWAY_SECONDS: Final = 6.0
#: Housekeeping runs every two seconds.
_ALARM_SECONDS: Final = _GRACE_SECONDS + 2.0
_UNATTENDED: Final = "SELECT user_id FROM guardwire.alerts WHERE kind = 'unattended' AND user_id = ANY ($1)"


def _strangers(stage: Stage, count: int) -> list[Owner]:
    """New accounts without bots."""
    return people(count, stage.random, first=_FIRST_OWNER)


async def _raise(connection: Any, user_id: UUID) -> None:
    """Write equity of a critical drawdown."""
    writer = DatabaseWriter(connection, user_id, applies=False)
    await writer.equity(10_000)
    await writer.equity(8_000, 1)


@contextlib.asynccontextmanager
async def _target(connection: Any, user_id: UUID, answer: Answer) -> AsyncIterator[Receiver]:
    """A webhook of an account that answers so; the account's alert escalates to it at once."""
    async with Receiver() as receiver:
        receiver.answer = answer
        await put_escalation(connection, user_id, _AT_ONCE)
        await put_endpoint(connection, user_id, kind="webhook", url=receiver.url)
        yield receiver


async def _outcomes(connection: Any, user_id: UUID) -> list[str | None]:
    rows = await connection.fetch("SELECT outcome FROM guardwire.deliveries WHERE user_id = $1", user_id)
    return [row["outcome"] for row in rows]


class _SlowAnswer:
    """Answers with 200, the first time not before it may."""

    def __init__(self) -> None:
        self.arrived, self.may_answer, self.answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        self.arrived.set()
        await self.may_answer.wait()
        await saying(200)(writer)
        self.answered.set()


async def killed_after_2xx(stage: Stage) -> None:
    """Kill the node that delivers when it has its 2xx and cannot commit it: the message comes again, under its id."""
    stage.leases_may_run_out = True
    user = _strangers(stage, 1)[0].user_id
    slow = _SlowAnswer()
    async with stage.ground.connection() as connection, _target(connection, user, slow) as target:
        await _raise(connection, user)
        await asyncio.wait_for(slow.arrived.wait(), _SENT_SECONDS)
        name = await connection.fetchval(
            "SELECT claimed_by FROM guardwire.deliveries WHERE user_id = $1", user
        )
        victim = next(site for site in stage.sites if site.node.name == name)
        await _kill_after_answer(stage, victim, slow)
        noted = await _outcomes(connection, user)
        stage.proves(f"after the 200 of node {name} {noted} was committed", noted == [None])
        # The lease of 20 s is compressed.
        await connection.execute(
            "UPDATE guardwire.deliveries SET due_at = clock_timestamp(), lease_until = clock_timestamp()"
            " WHERE user_id = $1",
            user,
        )
        again = await stage.until(lambda: _came(target, 2), seconds=_SENT_SECONDS)
        stage.figure("sent again", again, 2 * await slowness_of_a_process())
        await stage.until(lambda: _are_noted(connection, [user]), seconds=5)
        stage.figure(
            "not noted", sum(each != "delivered" for each in await _outcomes(connection, user)), 0, ""
        )
        stage.figure("times", len(target.requests), 2, "")
        stage.figure("ids", len({each.headers["webhook-id"] for each in target.requests}), 1, "")
        await _forget(connection, user)
    await victim.node.start()
    stage.healed()


async def _kill_after_answer(stage: Stage, victim: Site, slow: _SlowAnswer) -> None:
    """Kill a node that has an answer and not the commit, because its way to the database is cut."""
    victim.database.go_silent("up", "down")
    slow.may_answer.set()
    await asyncio.wait_for(slow.answered.wait(), 5)
    await stage.watch(0.3)
    code = await victim.node.kill()
    stage.proves(f"node {victim.node.name} ended by signal {-code}", code == -9)
    victim.database.go_silent()


async def _came(target: Receiver, times: int) -> bool:
    return len(target.requests) >= times


async def _forget(connection: Any, *users: UUID) -> None:
    """Delete the webhooks of accounts, and disarm them for good, so that no fault after this one hears of them."""
    await connection.execute("DELETE FROM guardwire.endpoints WHERE user_id = ANY ($1)", list(users))
    for table in ("arming", "attendance", "attendants"):
        await connection.execute(f"DELETE FROM guardwire.{table} WHERE user_id = ANY ($1)", list(users))


async def racing_acknowledgements(stage: Stage) -> None:
    """Every node acknowledges each of ten alerts at the same moment, while all nodes escalate them."""
    owners = _strangers(stage, _RACERS)
    users = [owner.user_id for owner in owners]
    async with stage.ground.connection() as connection, contextlib.AsyncExitStack() as stack:
        targets = [await stack.enter_async_context(_target(connection, user, saying(204))) for user in users]
        for user in users:
            await put_escalation(connection, user, {"webhook_after_seconds": _RACE_SECONDS})
            await _raise(connection, user)
        alerts: dict[UUID, UUID] = {}
        async with asyncio.timeout(_SENT_SECONDS):
            while len(alerts) < len(users):
                rows = await connection.fetch(
                    "SELECT user_id, alert_id FROM guardwire.alerts WHERE user_id = ANY ($1)", users
                )
                alerts = dict(rows)
                await asyncio.sleep(0.02)
        tokens = {owner.user_id: stage.ground.token(owner, scope="guards:ack") for owner in owners}
        answers = await asyncio.gather(
            *(
                _acknowledge(site, tokens[user], alert)
                for user, alert in alerts.items()
                for site in stage.sites
            )
        )
        statuses = Counter(answers)
        stage.proves(f"{len(stage.sites)} nodes answered {dict(statuses)}", statuses[200] == len(answers))
        lines = await connection.fetch(
            "SELECT user_id, count(*) AS times, count(DISTINCT who) AS names FROM guardwire.alert_log"
            " WHERE user_id = ANY ($1) AND entry = 'acknowledged' GROUP BY user_id",
            users,
        )
        stage.figure("never noted", len(users) - len(lines), 0, "")
        stage.figure("noted twice", sum(line["times"] - 1 for line in lines), 0, "")
        await stage.watch(_RACE_SECONDS + 2)
        escalated = await connection.fetchval(
            "SELECT count(*) FROM guardwire.alert_log AS e WHERE user_id = ANY ($1) AND entry = 'escalated'"
            " AND EXISTS (SELECT FROM guardwire.alert_log AS a WHERE a.alert_id = e.alert_id"
            " AND a.entry = 'acknowledged' AND a.log_id < e.log_id)",
            users,
        )
        stage.figure("acknowledged and then escalated", escalated, 0, "")
        stage.figure("sent", sum(len(target.requests) for target in targets), 0, f"of {len(users)}")
        await _forget(connection, *users)
    stage.healed()


async def _acknowledge(site: Site, token: str, alert: UUID) -> int:
    async with httpx.AsyncClient(base_url=site.node.url, timeout=10, trust_env=False) as client:
        answer = await client.post(
            f"/api/v1/alerts/{alert}/ack",
            headers={"Authorization": f"Bearer {token}"},
            json={"generation": 1, "as": f"closer-{site.node.name}", "action": "acting"},
        )
    return answer.status_code


async def bad_targets(stage: Stage) -> None:
    """One target hangs, one drips, one redirects, one is gone, one is busy and one fails, beside one that works."""
    names = ("works", "hangs", "drips", "redirects", "is gone", "is busy", "fails")
    owners = dict(zip(names, _strangers(stage, len(names)), strict=True))
    users = {name: owner.user_id for name, owner in owners.items()}
    answers = {
        "works": saying(204),
        "hangs": hanging,
        "drips": dripping,
        "is gone": saying(410),
        "is busy": saying(429, f"Retry-After: {_RETRY_AFTER_SECONDS}"),
        "fails": saying(500),
    }
    async with (
        stage.ground.connection() as connection,
        Receiver() as lure,
        contextlib.AsyncExitStack() as stack,
    ):
        answers["redirects"] = saying(307, f"Location: {lure.url}")
        targets = {
            name: await stack.enter_async_context(_target(connection, users[name], answers[name]))
            for name in names
        }
        began = time.monotonic()
        for user in users.values():
            await _raise(connection, user)
        works = await stage.until(lambda: _came(targets["works"], 1), seconds=_SENT_SECONDS)
        stage.figure("the one that works", works, 5 * await slowness_of_a_process())
        for name in names:
            await stage.until(lambda name=name: _came(targets[name], 1), seconds=_SENT_SECONDS)  # type: ignore[misc]
        await stage.until(lambda: _came(targets["fails"], 3), seconds=_SENT_SECONDS)
        counts = {name: len(target.requests) for name, target in targets.items()}
        stage.proves(f"after {time.monotonic() - began:.1f} s they got {counts}", min(counts.values()) > 0)
        for target in targets.values():
            target.answer = saying(204)
        await stage.until(lambda: _are_noted(connection, list(users.values())), seconds=15)
        outcomes = {name: await _outcomes(connection, user) for name, user in users.items()}
        right = {name: ["gone" if name == "is gone" else "delivered"] for name in names}
        stage.figure("ended otherwise", sum(outcomes[name] != right[name] for name in names), 0, "")
        first, second, *_ = (int(each.headers["webhook-timestamp"]) for each in targets["is busy"].requests)
        # The stamps are whole seconds.
        early = max(0, _RETRY_AFTER_SECONDS - 1 - (second - first))
        stage.figure("the busy one before its time", early, 0)
        stage.figure("redirects followed", lure.connections, 0, "")
        ids = [len({each.headers["webhook-id"] for each in target.requests}) for target in targets.values()]
        stage.figure("ids of one message", max(ids), 1, "")
        await _prove_gone(stage, connection, users["is gone"])
        await _forget(connection, *users.values())
    stage.healed()


async def _prove_gone(stage: Stage, connection: Any, user_id: UUID) -> None:
    (gone,) = await list_endpoints(connection, user_id)
    raised = await connection.fetchval(
        "SELECT count(*) FROM guardwire.alerts WHERE user_id = $1 AND kind = 'delivery'", user_id
    )
    stage.proves(
        f"the one that is gone is disabled, and {raised} alert says so",
        raised == 1 and gone.disabled_at is not None,
    )


async def _are_noted(connection: Any, users: list[UUID]) -> bool:
    waiting = await connection.fetchval(
        "SELECT count(*) FROM guardwire.deliveries WHERE user_id = ANY ($1) AND finished_at IS NULL", users
    )
    return bool(waiting == 0)


async def away_while_armed(stage: Stage) -> None:
    """PostgreSQL is away for longer than every lease and grace of 200 armed accounts; one bot dies meanwhile."""
    stage.right_again_seconds = 5 * await slowness_of_a_process() + _ALARM_SECONDS
    stage.misled_seconds = 3.0
    users = [owner.user_id for owner in _strangers(stage, _ARMED)]
    dead, alive = users[0], users[1:]
    attending, stop = set(users), asyncio.Event()
    async with stage.ground.connection() as connection:
        policy = await read_escalation(connection, EVERY_ACCOUNT)
        await put_escalation(connection, EVERY_ACCOUNT, {"grace_seconds": _GRACE_SECONDS})
        await connection.execute(
            "SELECT guardwire.set_arming(u, true, NULL, NULL, 'owner') FROM unnest($1::uuid[]) AS u", users
        )
    beating = asyncio.create_task(_beat(stage, attending, stop))
    try:
        await stage.watch(1)
        back_at = await _go_away(stage, lambda: attending.discard(dead))
        await _await_alarm(stage, dead, alive, back_at)
    finally:
        stop.set()
        await beating
    async with stage.ground.connection() as connection:
        await put_escalation(connection, EVERY_ACCOUNT, {"grace_seconds": policy["grace_seconds"]})
        await _forget(connection, *users)
    stage.healed()


async def _go_away(stage: Stage, meanwhile: Callable[[], None]) -> float:
    """Stop PostgreSQL for a while, in which ``meanwhile`` is called; when it was back."""
    postgres = stage.ground.postgres
    assert postgres.pid is not None
    os.kill(postgres.pid, signal.SIGINT)
    meanwhile()
    await asyncio.to_thread(postgres.end)
    gone_at = time.monotonic()
    await stage.watch(_AWAY_SECONDS)
    postgres.start()
    back_at = time.monotonic()
    stage.proves(
        f"PostgreSQL was away for {back_at - gone_at:.1f} s, leases are {_LEASE_SECONDS:g} s, graces {_GRACE_SECONDS}",
        back_at - gone_at > max(_LEASE_SECONDS, _GRACE_SECONDS),
    )
    return back_at


async def _await_alarm(stage: Stage, dead: UUID, alive: list[UUID], back_at: float) -> None:
    """Wait for the alarm of the bot that died; no other account has one, and all others are attended."""
    async with stage.ground.connection() as connection:
        waited = await stage.until(lambda: _is_alarmed(connection, dead), seconds=_ALARM_SECONDS * 3)
        since = time.monotonic() - back_at if waited < float("inf") else waited
        stage.figure("alarm of the bot that died", since, _GRACE_SECONDS + 2 * await slowness_of_a_process())
        await stage.watch(1)
        false = await connection.fetch(_UNATTENDED, alive)
        seen = await connection.fetchval(
            "SELECT count(*) FROM guardwire.attendance WHERE user_id = ANY ($1) AND status = 'attended'",
            alive,
        )
        stage.proves(f"afterwards {seen} accounts were attended", seen == len(alive))
        stage.figure("false alarms", len(false), 0, f"of {len(alive)}")


async def _is_alarmed(connection: Any, user_id: UUID) -> bool:
    return bool(await connection.fetch(_UNATTENDED, [user_id]))


async def _beat(stage: Stage, attending: set[UUID], stop: asyncio.Event) -> None:
    """Let a bot of each account beat every second, as nodes write beats, until ``stop``; none can during an outage."""
    connection: Any = None
    while not stop.is_set():
        try:
            if connection is None:
                connection = await asyncpg.connect(stage.ground.database_url, timeout=3)
            await beat(connection, [Beat(user, "closer-1", _LEASE_SECONDS) for user in attending])
        except AWAY:
            if connection is not None:
                connection.terminate()
            connection = None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 1 if connection is not None else 0.2)
    if connection is not None:
        connection.terminate()

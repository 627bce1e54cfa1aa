"""Each metric grows by as much as the events that it counts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from realtime.embedded.folder import free_port
from realtime.metrics import METRICS, Metrics
from realtime.supervise import Supervisor
from tests.end_to_end.mirror import Mirror, mirror
from tests.end_to_end.node import Node, node
from tests.feed.node import sync
from tests.inbox import wait_for_empty_inbox
from tests.machine import slowness
from tests.operations.exposition import parse

USER = UUID(int=0xA11CE)
TESTS = Path(__file__).parents[1]

#: A sync whose platform's clock is so many seconds behind.
_LATE_SYNC = """
INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, matched, event_type, created_at)
VALUES ($1, $2, 'XAUUSD', 1, 'sync', now() - make_interval(secs => $3))
"""


async def samples(running: Node) -> dict[str, float]:
    """The samples of /metrics by name, and by the value of the label when there is one."""
    found = {}
    for family in parse((await running.client.get("/metrics")).text).values():
        for (name, labels), value in family.samples.items():
            found[name if not labels else f"{name}{{{labels[0][1]}}}"] = value
    return found


class Grown(dict[str, float]):
    """The growth of each sample; 0 for missing ones."""

    def __missing__(self, name: str) -> float:
        return 0.0


@contextlib.asynccontextmanager
async def growth(running: Node) -> AsyncIterator[Grown]:
    """The growth of each sample while the context lasted, to be read after it."""
    before, grown = await samples(running), Grown()
    yield grown
    after = await samples(running)
    grown.update({name: value - before.get(name, 0) for name, value in after.items()})


@pytest.fixture
async def running(migrated_url: str, redis_url: str) -> AsyncIterator[Node]:
    async with node(migrated_url, redis_url, heartbeat_seconds=1.0, send_deadline_seconds=1.0) as started:
        yield started


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(migrated_url)
    yield connection
    await connection.close()


async def until(condition: Any, *, seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


def bearer(running: Node) -> dict[str, str]:
    return {"Authorization": f"Bearer {running.token(USER)}"}


async def test_a_day_of_changes(running: Node, database: asyncpg.Connection[Any]) -> None:
    token = running.token(USER)
    # Until its listener works, a node finds changes by its sweep, and reads them.
    await until(partial(_hears, running))
    async with mirror(running.url, token) as one, mirror(running.url, token) as two:
        open_now = await samples(running)
        assert open_now["guardwire_sockets"] == 2
        assert open_now["guardwire_watched_accounts"] == 1
        async with growth(running) as grown:
            for step in range(10):
                await sync(database, USER, price=1900.0 + step, is_applied=False)
                for each in (one, two):
                    await each.until(partial(_shows, each, 1900.0 + step))
            await one.until(lambda: one.frames_of("heartbeat"))
            await two.send({"type": "resync"})
            await two.until(lambda: len(two.frames_of("snapshot")) == 2)
            await asyncio.sleep(1.2)  # the time of a sweep, whose effect is counted
    assert grown["guardwire_push_latency_seconds_count"] == 20
    assert 0 < grown["guardwire_push_latency_seconds_sum"] < 20
    # The first row opens a position and is read; the others only move its price and arrive as deltas.
    assert grown["guardwire_evaluations_total"] >= 1
    assert grown["guardwire_evaluation_statements_total"] >= 1
    assert grown["guardwire_followed_total"] == 9
    assert grown["guardwire_frames_total{update}"] == 20
    assert grown["guardwire_frames_total{snapshot}"] == 1
    assert grown["guardwire_frames_total{heartbeat}"] >= 1
    assert grown["guardwire_resyncs_total{requested}"] == 1
    assert grown["guardwire_sweeps_total"] >= 1
    assert grown["guardwire_loop_lag_seconds_count"] >= 4
    assert grown["guardwire_snapshot_commits_total{stored}"] >= 1
    now = await samples(running)
    assert now["guardwire_sockets"] == 0
    assert now["guardwire_redis_up"] == now["guardwire_redis_configured"] == 1
    assert now["guardwire_listener_up"] == 1
    assert 0 < now["guardwire_canary_round_trip_seconds"] < 2


async def _hears(running: Node) -> bool:
    return (await samples(running))["guardwire_listener_up"] == 1


async def test_the_inbox(running: Node, database: asyncpg.Connection[Any]) -> None:
    applied = "guardwire_applied_rows_total"
    before = (await samples(running))[applied]

    async def are_counted() -> bool:
        return (await samples(running))[applied] >= before + 3

    async with growth(running) as grown:
        for ticket in range(1, 4):
            await sync(database, USER, ticket=ticket, is_applied=False)
        await until(are_counted)
    assert (await samples(running))["guardwire_applier_term"] >= 1
    assert (await samples(running))["guardwire_applier_held"] == 1
    assert grown[applied] == 3
    assert 1 <= grown["guardwire_batches_total"] <= 3
    assert grown["guardwire_inbox_delay_seconds_count"] == grown["guardwire_batches_total"]
    assert 0 < grown["guardwire_inbox_delay_seconds_sum"] < 20


async def test_rows_that_wait(running: Node, database: asyncpg.Connection[Any]) -> None:
    await sync(database, USER)
    await database.execute("SELECT guardwire.unready($1)", USER)
    for _ in range(2):
        await sync(database, USER, is_applied=False)

    async def waits() -> bool:
        now = await samples(running)
        return now["guardwire_unread_accounts"] == 1 and now["guardwire_inbox_rows"] == 2

    async def none_waits() -> bool:
        now = await samples(running)
        return now["guardwire_unread_accounts"] == now["guardwire_inbox_rows"] == 0

    await until(waits)
    assert (await samples(running))["guardwire_inbox_oldest_seconds"] > 0
    await database.execute("SELECT guardwire.read_history($1)", USER)
    await until(none_waits)
    assert (await samples(running))["guardwire_inbox_oldest_seconds"] == 0


async def test_a_platform_whose_clock_is_off_or_may_have_gone_back(
    running: Node, database: asyncpg.Connection[Any]
) -> None:
    for _ in range(3):
        await database.execute(_LATE_SYNC, USER, 1, 7200)
    await wait_for_empty_inbox(database)

    async def is_off() -> bool:
        return (await samples(running))["guardwire_clocks_off_accounts"] == 1

    await until(is_off)
    await database.execute(_LATE_SYNC, USER, 1, 14_400)
    await wait_for_empty_inbox(database)

    async def is_doubted() -> bool:
        return (await samples(running))["guardwire_doubted_accounts"] == 1

    await until(is_doubted)


async def test_rows_that_cannot_be_applied(running: Node, database: asyncpg.Connection[Any]) -> None:
    await database.execute("ALTER TABLE guardwire.positions ADD CONSTRAINT no_seven CHECK (ticket <> 7)")
    async with growth(running) as grown:
        for ticket in (6, 7, 8):
            await sync(database, USER, ticket=ticket, is_applied=False)
        await wait_for_empty_inbox(database)

        async def is_seen() -> bool:
            return (await samples(running))["guardwire_set_aside_rows"] == 1

        await until(is_seen)
    assert grown["guardwire_set_aside_total"] == 1
    assert grown["guardwire_applied_rows_total"] == 3


def _shows(account: Mirror, price: float) -> bool:
    return bool(account.state["positions"]["open"].get("7", {}).get("current_price") == price)


async def test_streams_and_polls(running: Node) -> None:
    position = (await running.client.get("/api/v1/state", headers=bearer(running))).headers["etag"].strip('"')
    poll = asyncio.create_task(
        running.client.get(f"/api/v1/state?since={position}&wait=3", headers=bearer(running))
    )

    async def both_wait() -> bool:
        now = await samples(running)
        return (now["guardwire_event_streams"], now["guardwire_long_polls"]) == (1, 1)

    async with running.client.stream("GET", "/api/v1/stream", headers=bearer(running)) as stream:
        assert stream.status_code == 200
        await until(both_wait)
    assert (await poll).status_code == 304

    async def none_is_left() -> bool:
        now = await samples(running)
        return (now["guardwire_event_streams"], now["guardwire_long_polls"]) == (0, 0)

    await until(none_is_left)


async def test_refusals_and_closes(running: Node) -> None:
    address = running.url.replace("http", "ws", 1) + "/ws"
    async with growth(running) as grown:
        assert (await running.client.get("/api/v1/positions/open")).status_code == 401
        async with connect(address) as connection:
            await connection.send(json.dumps({"type": "hello", "token": "a.b.c"}))
            with pytest.raises(ConnectionClosed):
                await connection.recv()
        async with connect(address) as connection:
            await connection.send("no frame")
            with pytest.raises(ConnectionClosed):
                await connection.recv()
        async with connect(address + "?since=1:1", additional_headers=bearer(running)) as connection:
            assert json.loads(await connection.recv())["resumed"] is False
    assert grown["guardwire_authentication_failures_total{missing}"] == 1
    assert grown["guardwire_authentication_failures_total{malformed}"] == 1
    assert grown["guardwire_closes_total{4401}"] == 1
    assert grown["guardwire_closes_total{4400}"] == 1
    assert grown["guardwire_resyncs_total{epoch}"] == 1


async def test_history_that_does_not_reach_back(running: Node) -> None:
    answer = await running.client.get("/api/v1/state", headers=bearer(running))
    epoch = json.loads(answer.text)["epoch"]
    async with growth(running) as grown:
        again = await running.client.get(f"/api/v1/state?since={epoch}:77", headers=bearer(running))
        assert json.loads(again.text)["type"] == "snapshot"
    assert grown["guardwire_resyncs_total{history}"] == 1


async def test_a_slow_reader(running: Node, database: asyncpg.Connection[Any]) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((host, int(port)))
    client.sendall(f"GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\n{_head(running)}\r\n\r\n".encode())
    # The state holds the newest five events, and a new reason in each of them makes every frame large.
    many = (
        "INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, event_type, divergence_reason)"
        " SELECT $1, ticket, 'XAUUSD', 'divergence', $2 || repeat('.', 480)"
        " FROM generate_series(1, 5) AS ticket"
    )
    async with growth(running) as grown:
        before = METRICS.slow_readers.get()
        async with asyncio.timeout(20 * slowness()):
            while METRICS.slow_readers.get() == before:
                await database.execute(many, USER, str(time.monotonic_ns()))
                await wait_for_empty_inbox(database)
    assert grown["guardwire_slow_readers_total"] == 1
    client.close()


def _head(running: Node) -> str:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    return "\r\n".join(f"{name}: {value}" for name, value in (bearer(running) | upgrade).items())


async def test_the_age_of_the_state_grows_while_nobody_can_look(
    running: Node, database: asyncpg.Connection[Any]
) -> None:
    async def is_fresh() -> bool:
        return (await samples(running))["guardwire_state_age_seconds"] < 2

    async def is_old() -> bool:
        return (await samples(running))["guardwire_state_age_seconds"] > 3

    async with mirror(running.url, running.token(USER)):
        await until(is_fresh)
        async with database.transaction():
            await database.execute("LOCK TABLE guardwire.accounts IN ACCESS EXCLUSIVE MODE")
            await until(is_old)
        await until(is_fresh)


async def test_an_account_that_cannot_be_read(
    running: Node, database: asyncpg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Every sweep counts the failure; the log has one line at its begin and one at its end."""
    await sync(database, USER)
    async with mirror(running.url, running.token(USER)):
        failures = METRICS.evaluation_failures.get()
        await database.execute("UPDATE guardwire.accounts SET balance = 1e400, revision = revision + 1")

        async def is_counted() -> bool:
            return (await samples(running))["guardwire_evaluation_failures_total"] > failures + 2

        await until(is_counted)
        assert caplog.text.count("cannot be evaluated") == 1
        await database.execute("UPDATE guardwire.accounts SET balance = 1, revision = revision + 1")

        async def is_told() -> bool:
            return "can be evaluated again" in caplog.text

        await until(is_told)


async def test_a_loop_that_stood_still(running: Node, caplog: pytest.LogCaptureFixture) -> None:
    async with growth(running) as grown:
        await asyncio.sleep(0.5)
        time.sleep(1.3)  # noqa: ASYNC251 - that is the point
        await asyncio.sleep(0.5)
    all_of_them = grown["guardwire_loop_lag_seconds_count"]
    assert grown["guardwire_loop_lag_seconds_bucket{1}"] == all_of_them - 1
    assert "the event loop stood still for 1." in caplog.text


async def test_redis_out_of_reach(migrated_url: str) -> None:
    METRICS.redis_up.set(1)
    async with node(migrated_url, f"redis://127.0.0.1:{free_port()}") as running:

        async def is_down() -> bool:
            return (await samples(running))["guardwire_redis_up"] == 0

        await until(is_down)


async def test_a_task_that_fails() -> None:
    async def fail() -> None:
        raise RuntimeError("no")

    supervisor = Supervisor()
    supervisor.start("clumsy", fail)
    async with asyncio.timeout(5):
        while METRICS.task_deaths.get("clumsy") < 2:
            await asyncio.sleep(0.01)
    await supervisor.stop()


def test_every_metric_is_seen_to_move_somewhere() -> None:
    text = "".join(path.read_text("utf-8") for path in TESTS.rglob("test_*.py"))
    unseen = [
        metric.name
        for attribute, metric in vars(Metrics()).items()
        if f"METRICS.{attribute}." not in text and metric.name not in text
    ]
    assert unseen == []

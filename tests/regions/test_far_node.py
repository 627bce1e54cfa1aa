"""A node that reads a standby shows what the primary committed, writes to the primary, and says honestly how old its
state is.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID, uuid4

import httpx
import pytest

from auth.development import DevelopmentKey
from auth.identity import ACK_SCOPE, ADMIN_SCOPE, MANAGE_SCOPE
from queries.alert_calls import read_alert_log
from realtime.metrics import METRICS
from tests.end_to_end.mirror import Mirror, mirror
from tests.end_to_end.node import Node, node
from tests.end_to_end.test_alerts import client, raise_alert
from tests.end_to_end.test_revocation import revoke
from tests.faults.oracle import differences, known_instruments
from tests.faults.proxy import Proxy
from tests.inbox import wait_for_empty_inbox
from tests.queries.database_writer import DatabaseWriter
from tests.regions.conftest import Pair, until_equity
from tests.regions.servers import Replicas, ReplicatedPostgres, execute, paused
from tests.waiting import until

#: The promise: a state that is not known to be the newest is called stale within this time.
STALE_SECONDS = 3.0
#: Nodes read revocations every three seconds.
REVOKED_SECONDS = 8.0


class Regions(NamedTuple):
    """A node at the primary, and one at the standby whose statements for the primary go through ``link``."""

    home: Node
    far: Node
    link: Proxy


@pytest.fixture
async def regions(pair: Pair, all_replicas: Replicas) -> AsyncIterator[Regions]:
    async with running(pair, all_replicas.primary) as both:
        yield both


@contextlib.asynccontextmanager
async def running(pair: Pair, primary: ReplicatedPostgres) -> AsyncIterator[Regions]:
    """Both nodes, which accept the same tokens."""
    key = DevelopmentKey(secrets.token_hex(32))
    async with Proxy("primary", primary.port) as link:
        linked_url = primary.url_of(pair.primary, port=link.port)
        async with (
            node(pair.primary, key=key, heartbeat_seconds=0.5) as home,
            node(pair.standby, primary_url=linked_url, key=key, heartbeat_seconds=0.5) as far,
        ):
            yield Regions(home, far, link)


@contextlib.asynccontextmanager
async def following(regions: Regions, writer: DatabaseWriter) -> AsyncIterator[tuple[Mirror, Mirror]]:
    """The mirrors of an account in both regions, as soon as the far one is fresh."""
    token = regions.home.token(writer.user_id)
    async with mirror(regions.home.url, token) as near, mirror(regions.far.url, token) as far:
        await until_fresh(far)
        yield near, far


async def newest_revision(writer: DatabaseWriter) -> int:
    """The account's revision at the primary."""
    found: int = await writer.connection.fetchval(
        "SELECT revision FROM guardwire.accounts WHERE user_id = $1", writer.user_id
    )
    return found


async def until_fresh(account: Mirror) -> None:
    await account.until(lambda: account.frames and not account.frames[-1].frame.get("stale", True))


async def trade(writer: DatabaseWriter, *, turns: int, first: int = 0) -> None:
    """Rows of every kind: positions that open, move and close, equity, divergences, a limit that is exceeded."""
    for turn in range(first, first + turns):
        second = turn / 100
        await writer.sync(second, ticket=1 + turn % 5, current_price=str(1950 + turn % 30))
        await writer.equity(10_000 - 100 * (turn % 25), second)
        if turn % 7 == 3:
            await writer.close(second + 0.001, ticket=1 + turn % 5)
        if turn % 11 == 5:
            await writer.sync(second + 0.002, ticket=9, event_type="divergence", matched=2)


async def test_both_regions_show_what_the_log_says(regions: Regions, writer: DatabaseWriter) -> None:
    since = datetime.now(UTC)
    async with following(regions, writer) as accounts:
        await trade(writer, turns=60)
        await wait_for_empty_inbox(writer.connection)
        revision = await newest_revision(writer)
        instruments = await known_instruments(writer.connection)
        for account in accounts:
            await account.until_revision(revision)
            found = await differences(
                writer.connection, instruments, writer.user_id, account.state, since=since
            )
            assert found == []
        near, far = accounts
        assert (near.epoch, near.revision) == (far.epoch, far.revision)
        document = await regions.far.get("/api/v1/positions/open", writer.user_id)
        assert document == await regions.home.get("/api/v1/positions/open", writer.user_id)


async def test_what_a_far_client_asks_for_is_done_at_the_primary(
    regions: Regions, writer: DatabaseWriter
) -> None:
    async with (
        client(regions.home, writer, ACK_SCOPE, query="?channels=alerts") as near,
        client(regions.far, writer, ACK_SCOPE, query="?channels=alerts") as far,
    ):
        alert = await raise_alert(writer, near)
        await far.until(far.open_alerts)
        await far.say(type="ack", alerts={alert: 1}, action="acting", **{"as": "closer-1"})
        assert (await far.answer())["alerts"] == {alert: 1}
        await far.say(type="attend", lease_seconds=15, **{"as": "closer-1"})
        for each in (near, far):
            await each.until(lambda each=each: "acknowledged_by" in each.open_alerts()[alert])
            await each.until(lambda each=each: each.attendants().get("closer-1"))
        log = await read_alert_log(writer.connection, writer.user_id, UUID(alert))
        assert [each.who for each in log if each.entry == "acknowledged"] == ["closer-1"]
        token = regions.far.key.issue(writer.user_id, scopes=(MANAGE_SCOPE,))
        answer = await regions.far.client.put(
            "/api/v1/arming",
            json={"armed": False, "as": "operator", "reason": "maintenance", "until": soon()},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 200, answer.text
        assert not await writer.connection.fetchval("SELECT armed FROM guardwire.arming")


async def test_a_far_client_may_go_home_and_back_and_resumes(
    regions: Regions, writer: DatabaseWriter
) -> None:
    token = regions.home.token(writer.user_id)
    await trade(writer, turns=3)
    async with mirror(regions.far.url, token) as held:
        await wait_for_empty_inbox(writer.connection)
        await held.until_revision(await newest_revision(writer))
    for number, url in enumerate((regions.home.url, regions.far.url) * 2):
        async with mirror(url, token, held=held) as account:
            assert account.resumed
            await writer.equity(9_000 - number, 10 + number)
            await until_equity(9_000 - number, account)
        held = account


async def test_while_replay_is_paused_the_far_region_is_stale_and_shows_nothing_newer(
    regions: Regions, writer: DatabaseWriter, pair: Pair
) -> None:
    async with following(regions, writer) as (near, far):
        await trade(writer, turns=1)
        await far.until(lambda: far.revision > 0)
        await until_fresh(far)
        async with paused(pair.standby):
            began = time.monotonic()
            await trade(writer, turns=1, first=1)
            await near.until(lambda: near.revision > far.revision)
            await far.until(lambda: far.stale)
            assert time.monotonic() - began < STALE_SECONDS
            assert not near.stale
            answer = await health(regions.far)
            assert answer.status_code == 503
            assert METRICS.standby.get() == 1
            await until(lambda: METRICS.replay_lag.get() > 2)
            status = await document(regions.far, writer)
            assert status.headers["guardwire-stale"] == "true"
            assert int(status.headers["guardwire-age-ms"]) >= 2_000
        await far.until_revision(near.revision)
        await far.until(lambda: not far.stale)
        assert far.state == near.state


async def test_a_client_that_is_ahead_of_its_new_region_is_sent_away_or_waits_and_never_goes_back(
    regions: Regions, writer: DatabaseWriter, pair: Pair
) -> None:
    await trade(writer, turns=1)
    token = regions.home.token(writer.user_id)
    async with following(regions, writer) as (near, far):
        await near.until(lambda: near.revision > 0)
        await far.until_revision(near.revision)
        async with paused(pair.standby):
            await trade(writer, turns=1, first=1)
            await near.until(lambda: near.revision > far.revision)
            with pytest.raises(AssertionError, match="1013"):
                async with mirror(regions.far.url, token, held=near):
                    pass
    async with mirror(regions.far.url, token, held=near) as again:
        assert (again.epoch, again.revision) >= (near.epoch, near.revision)


async def test_a_revocation_reaches_a_region_that_replays_nothing(
    regions: Regions, writer: DatabaseWriter, pair: Pair
) -> None:
    token = regions.home.key.issue(writer.user_id, now=time.time() - 5)
    admin = regions.home.key.issue(uuid4(), scopes=[ADMIN_SCOPE])
    async with mirror(regions.far.url, token) as far, paused(pair.standby):
        assert await revoke(regions.home, admin, user_id=str(writer.user_id)) == 200
        async with asyncio.timeout(REVOKED_SECONDS):
            await far.until_closed()
        assert far.closed is not None
        assert far.closed.rcvd is not None
        assert far.closed.rcvd.code == 4403


async def test_without_the_primary_the_far_region_is_stale_and_refuses_for_a_time_what_writes(
    regions: Regions, writer: DatabaseWriter
) -> None:
    async with following(regions, writer) as (near, far):
        began = time.monotonic()
        primary_port, regions.link.target_port = regions.link.target_port, 1
        regions.link.cut()
        await far.until(lambda: far.stale)
        assert time.monotonic() - began < STALE_SECONDS
        assert not near.stale
        assert METRICS.primary_up.get() == 0
        async with client(regions.far, writer, ACK_SCOPE, query="?channels=alerts") as bot:
            await bot.say(type="ack", alerts={str(uuid4()): 1}, **{"as": "closer-1"})
            refused = await bot.answer()
            assert (refused["code"], refused["retry"]) == ("unavailable", True)
        token = regions.far.key.issue(writer.user_id, scopes=(ACK_SCOPE,))
        answer = await regions.far.client.post(
            f"/api/v1/alerts/{uuid4()}/ack",
            json={"generation": 1, "as": "closer-1"},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        regions.link.target_port = primary_port
        await far.until(lambda: not far.stale)


async def test_a_cut_link_between_the_databases_is_stale_as_well(
    regions: Regions, writer: DatabaseWriter, pair: Pair, all_replicas: Replicas
) -> None:
    primary = all_replicas.primary
    async with Proxy("replication", primary.port) as link, following(regions, writer) as (near, far):
        async with replicating_through(all_replicas, pair, link):
            await trade(writer, turns=1)
            await far.until(lambda: far.revision > 0)
            await until_fresh(far)
            began = time.monotonic()
            link.go_silent("up", "down")
            await far.until(lambda: far.stale)
            assert time.monotonic() - began < STALE_SECONDS
            link.go_silent()
            await far.until(lambda: not far.stale)
        assert not near.stale


@contextlib.asynccontextmanager
async def replicating_through(replicas: Replicas, pair: Pair, link: Proxy) -> AsyncIterator[None]:
    """The standby streams through ``link`` while the context lasts."""

    async def follow(port: int) -> None:
        await execute(
            pair.standby,
            f"ALTER SYSTEM SET primary_conninfo = '{replicas.conninfo(port)}'",
            "SELECT pg_reload_conf()",
        )

    await follow(link.port)
    try:
        yield
    finally:
        await follow(replicas.primary.port)


def soon() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


async def health(of: Node) -> httpx.Response:
    return await of.client.get("/readyz")


async def document(of: Node, writer: DatabaseWriter) -> httpx.Response:
    token = of.token(writer.user_id)
    return await of.client.get("/api/v1/reconciliation/status", headers={"Authorization": f"Bearer {token}"})

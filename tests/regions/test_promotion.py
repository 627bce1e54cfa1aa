"""A standby that lacks the last commits is promoted: a new history begins, and nobody takes the old one for it."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from auth.development import DevelopmentKey
from tests.end_to_end.mirror import mirror
from tests.end_to_end.node import node
from tests.faults.proxy import Proxy
from tests.queries.database_writer import DatabaseWriter, connected
from tests.regions.conftest import equity_of, until_equity
from tests.regions.servers import Replicas, ReplicatedPostgres, execute, replayed


@pytest.fixture
def promotable(all_replicas: Replicas) -> Any:
    """A standby of this test alone."""
    standby = all_replicas.standby()
    yield standby
    standby.end()


async def test_after_a_promotion_with_lost_commits_every_client_gets_a_snapshot_of_a_new_epoch(
    primary_url: str, writer: DatabaseWriter, all_replicas: Replicas, promotable: ReplicatedPostgres
) -> None:
    await replayed(primary_url, promotable.url)
    standby_url, key = promotable.url_of(primary_url), DevelopmentKey(secrets.token_hex(32))
    token = key.issue(writer.user_id)
    async with Proxy("primary", all_replicas.primary.port) as link:
        either = standby_url.replace("127.0.0.1:", f"127.0.0.1:{link.port},127.0.0.1:")
        either += "?target_session_attrs=read-write"
        async with (
            node(primary_url, key=key) as home,
            node(standby_url, primary_url=either, key=key, heartbeat_seconds=0.5) as region,
            mirror(home.url, token) as near,
            mirror(region.url, token) as far,
        ):
            await writer.equity(10_000)
            await until_equity(10_000, near, far)
            await stop_streaming(standby_url)
            await writer.equity(9_000, 1)
            await until_equity(9_000, near)
            lost = near.epoch, near.revision
            link.target_port = 1
            link.cut()
            assert await execute(standby_url, "SELECT pg_promote()")
            assert not await execute(standby_url, "SELECT guardwire.delivers()")
            await far.until(lambda: far.epoch > near.epoch)
            await far.until(lambda: not far.stale)
            assert equity_of(far) == 10_000
            async with mirror(region.url, token, held=near) as moved, connected(standby_url) as connection:
                assert not moved.resumed
                assert (moved.epoch, moved.state) == (far.epoch, far.state)
                platform = DatabaseWriter(connection, writer.user_id, applies=False)
                await platform.equity(8_500, 2)
                await until_equity(8_500, far, moved)
                shown = {(each["epoch"], each["revision"]) for each in moved.frames_of("snapshot")}
                assert lost not in shown
                assert moved.revision != lost[1]


async def stop_streaming(standby_url: str) -> None:
    """Let the standby receive nothing more."""
    await execute(
        standby_url,
        "ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'",
        "SELECT pg_reload_conf()",
    )
    while await execute(standby_url, "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver)"):
        pass

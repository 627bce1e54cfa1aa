"""Revoking a user or a token reaches sockets and requests on every node, and no others."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from auth.development import DevelopmentKey
from auth.identity import ADMIN_SCOPE
from auth.tokens import Verifier
from tests.cli.conftest import ROOT, command, environment
from tests.end_to_end.node import Node, node

WITH_REDIS_SECONDS = 5.0
WITHOUT_REDIS_SECONDS = 60.0
LOCKED_OUT_SECONDS = 5.0
#: How far ahead an issuer's clock may be (`Rules.leeway_seconds`).
LEEWAY_SECONDS = 5.0
USER, OTHER, ADMIN = (UUID(int=number) for number in (0xA11CE, 0xB0B, 0xADA))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def stream(node: Node, token: str) -> connect:
    return connect(f"{node.url.replace('http', 'ws')}/ws", additional_headers=bearer(token))


async def close_code(connection: ClientConnection) -> int | None:
    try:
        while True:
            await connection.recv()
    except ConnectionClosed:
        return connection.close_code


async def revoke(node: Node, token: str, **what: str) -> int:
    """The status of a request to revoke, sent to ``node``."""
    path = "/api/v1/admin/revocations"
    return (await node.client.post(path, headers=bearer(token), json=what)).status_code


async def status(node: Node, token: str) -> int:
    """The status of a request with ``token`` to ``node``."""
    return (await node.client.get("/api/v1/positions/open", headers=bearer(token))).status_code


@pytest.mark.parametrize("with_redis", [True, False], ids=["with Redis", "without Redis"])
async def test_a_revoked_user_is_cut_off_on_every_node_in_time(
    migrated_url: str, redis_url: str, with_redis: bool
) -> None:
    key, redis = DevelopmentKey(secrets.token_hex(32)), redis_url if with_redis else ""
    admin = key.issue(ADMIN, scopes=[ADMIN_SCOPE])
    token, other = key.issue(USER, now=time.time() - 5), key.issue(OTHER, now=time.time() - 5)
    async with (
        node(migrated_url, redis, key=key) as one,
        node(migrated_url, redis, key=key) as two,
        stream(one, token) as here,
        stream(two, token) as there,
        stream(two, other) as bystander,
    ):
        for connection in (here, there, bystander):
            assert '"welcome"' in str(await connection.recv())
        assert await revoke(one, other, user_id=str(USER)) == 403
        began = time.monotonic()
        assert await revoke(one, admin, user_id=str(USER), reason="lost laptop") == 200
        assert await close_code(here) == await close_code(there) == 4403
        assert time.monotonic() - began < (WITH_REDIS_SECONDS if with_redis else WITHOUT_REDIS_SECONDS)
        for server in (one, two):
            assert await status(server, token) == 403
            with pytest.raises(InvalidStatus) as refused:
                await stream(server, token)
            assert refused.value.response.status_code == 403
        assert bystander.close_code is None
        # The user is not locked out: a token that is issued later, by more than clocks may differ, is valid.
        async with asyncio.timeout(30):
            while (await status(two, later := key.issue(USER, now=time.time() + LEEWAY_SECONDS))) != 200:
                await asyncio.sleep(0.1)
        async with stream(two, later) as again:
            assert '"welcome"' in str(await again.recv())


@pytest.mark.parametrize("with_redis", [True, False], ids=["with Redis", "without Redis"])
async def test_a_user_who_is_locked_out_is_cut_off_and_stays_out_with_new_tokens(
    migrated_url: str, redis_url: str, with_redis: bool
) -> None:
    key, redis = DevelopmentKey(secrets.token_hex(32)), redis_url if with_redis else ""
    token, other = key.issue(USER), key.issue(OTHER)
    variables = {"DATABASE_URL": migrated_url, "REDIS_URL": redis}
    async with (
        node(migrated_url, redis, key=key) as one,
        node(migrated_url, redis, key=key) as two,
        stream(one, token) as here,
        stream(two, token) as there,
        stream(two, other) as bystander,
    ):
        for connection in (here, there, bystander):
            assert '"welcome"' in str(await connection.recv())
        ends_at = datetime.now(UTC) + timedelta(days=1)
        await guardwire("revoke", "--user", str(USER), "--until", ends_at.isoformat(), **variables)
        began = time.monotonic()
        assert await close_code(here) == await close_code(there) == 4403
        assert time.monotonic() - began < LOCKED_OUT_SECONDS
        # As new as an issuer's clock allows.
        newest = key.issue(USER, now=time.time() + LEEWAY_SECONDS)
        for server in (one, two):
            assert await status(server, newest) == 403
            async with connect(f"{server.url.replace('http', 'ws')}/ws") as browser:
                await browser.send(json.dumps({"type": "hello", "token": newest}))
                assert await close_code(browser) == 4403
        assert bystander.close_code is None

        await guardwire("revoke", "--undo", "--user", str(USER), **variables)
        for server in (one, two):
            async with asyncio.timeout(30):
                while await status(server, token) != 200:
                    await asyncio.sleep(0.05)


async def guardwire(*words: str, **variables: str) -> None:
    """Run a command to its end, which must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command(*words), env=environment(**variables), cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_a_revoked_token_is_cut_off_and_the_users_other_one_is_not(
    migrated_url: str, redis_url: str
) -> None:
    key = DevelopmentKey(secrets.token_hex(32))
    stolen, kept = key.issue(USER), key.issue(USER)
    token_id = (await Verifier(keys=[key.source], rules=key.rules).verify(stolen)).token_id
    async with (
        node(migrated_url, redis_url, key=key) as one,
        stream(one, stolen) as thief,
        stream(one, kept) as owner,
    ):
        for connection in (thief, owner):
            assert '"welcome"' in str(await connection.recv())
        admin = key.issue(ADMIN, scopes=[ADMIN_SCOPE])
        assert await revoke(one, admin, token_id=token_id) == 200
        assert await close_code(thief) == 4403
        assert owner.close_code is None
        assert await status(one, kept) == 200

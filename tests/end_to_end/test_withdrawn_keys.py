"""A key that its issuer withdraws: its streams, polls and tickets end, and those of other keys go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.auth.issuer import (
    SECRET,
    USER,
    Signer,
    compact,
    good_claims,
    hs256,
    secret_token,
)
from tests.auth.jwks_server import JwksServer
from tests.end_to_end.production_node import bearer, serving_with, stream

WITHDRAWN_SECONDS = 5.0


@pytest.fixture
async def provider() -> AsyncIterator[JwksServer]:
    server = JwksServer()
    await server.start()
    yield server
    await server.stop()


async def frame_of_type(connection: ClientConnection, kind: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            frame: dict[str, Any] = json.loads(await connection.recv())
            if frame["type"] == kind:
                return frame


async def close_code(connection: ClientConnection) -> int | None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await connection.recv()
    return connection.close_code


async def ticket_for(client: httpx.AsyncClient, token: str) -> str:
    answer = await client.post("/api/v1/tickets", headers=bearer(token))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["ticket"])


async def redeemed(client: httpx.AsyncClient, ticket: str) -> int:
    """The status of an event stream that is opened with ``ticket``."""
    async with client.stream("GET", "/api/v1/stream", params={"ticket": ticket}) as answer:
        return answer.status_code


async def last_event(client: httpx.AsyncClient, token: str, opened: asyncio.Event) -> dict[str, Any]:
    """The last frame of an event stream; ``opened`` is set at the first one."""
    last: dict[str, Any] = {}
    async with client.stream("GET", "/api/v1/stream", headers=bearer(token)) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                last = json.loads(line.removeprefix("data: "))
                opened.set()
    return last


async def polled(client: httpx.AsyncClient, token: str) -> int:
    """The status of a long poll for a change that does not come."""
    first = (await client.get("/api/v1/state", headers=bearer(token))).json()
    since = f"{first['epoch']}:{first['revision']}"
    answer = await client.get(
        "/api/v1/state", params={"since": since, "wait": "55"}, headers=bearer(token), timeout=60
    )
    return answer.status_code


async def test_what_a_withdrawn_key_signed_ends_in_time_and_nothing_else(
    migrated_url: str, redis_url: str, provider: JwksServer
) -> None:
    leaving, staying, newer = (Signer("ES256", name) for name in ("leaving", "staying", "newer"))
    provider.publish(leaving.jwk(), staying.jwk())
    async with (
        serving_with(migrated_url, redis_url, jwks_url=provider.url, max_sockets_per_user=20) as client,
        stream(client, leaving.token()) as by_header,
        stream(client) as by_hello,
        stream(client, staying.token()) as bystander,
        stream(client, leaving.token()) as renewed_in_time,
        stream(client, staying.token()) as renewed_for_worse,
    ):
        await by_hello.send(json.dumps({"type": "hello", "token": leaving.token()}))
        for connection in (by_header, by_hello, bystander, renewed_in_time, renewed_for_worse):
            await frame_of_type(connection, "snapshot")
        await renewed_in_time.send(json.dumps({"type": "auth", "token": staying.token()}))
        await renewed_for_worse.send(json.dumps({"type": "auth", "token": leaving.token()}))
        for connection in (renewed_in_time, renewed_for_worse):
            await frame_of_type(connection, "auth_ok")
        opened = asyncio.Event()
        events = asyncio.create_task(last_event(client, leaving.token(), opened))
        poll = asyncio.create_task(polled(client, leaving.token()))
        await opened.wait()
        tickets = {signer: await ticket_for(client, signer.token()) for signer in (leaving, staying)}

        provider.publish(staying.jwk(), newer.jwk())
        # The node learns of the withdrawal because it looks for the key of this token.
        answer = await client.get("/api/v1/positions/open", headers=bearer(newer.token()))
        assert answer.status_code == 200
        began = time.monotonic()
        assert await redeemed(client, tickets[leaving]) == 401
        assert await poll == 401
        assert (await events)["code"] == "unauthenticated"
        for connection in (by_header, by_hello, renewed_for_worse):
            assert await close_code(connection) == 4401
        assert time.monotonic() - began < WITHDRAWN_SECONDS
        for connection in (bystander, renewed_in_time):
            assert (await frame_of_type(connection, "heartbeat"))["stale"] is False
        assert await redeemed(client, tickets[staying]) == 200


async def test_a_ticket_does_not_outlive_the_secret_that_signed_its_token(
    migrated_url: str, redis_url: str
) -> None:
    rotated = SECRET[::-1]
    async with (
        serving_with(migrated_url, redis_url, jwt_secret=SECRET) as before,
        serving_with(migrated_url, redis_url, jwt_secret=rotated) as after,
    ):
        ticket, good = [await ticket_for(before, secret_token()) for _ in range(2)]
        assert await redeemed(after, ticket) == 401
        assert await redeemed(before, good) == 200


async def test_two_secrets_overlap_while_nodes_are_restarted_one_after_the_other(
    migrated_url: str, redis_url: str
) -> None:
    new = SECRET[::-1]
    before, after = secret_token(), compact({"alg": "HS256"}, good_claims(), hs256(new.encode()))
    async with (
        serving_with(migrated_url, redis_url, jwt_secret=SECRET) as old_node,
        serving_with(migrated_url, redis_url, jwt_secret=f"{new},{SECRET}") as overlapping,
        serving_with(migrated_url, redis_url, jwt_secret=new) as new_node,
    ):
        for client, statuses in ((old_node, [200, 401]), (overlapping, [200, 200]), (new_node, [401, 200])):
            answers = [
                await client.get("/api/v1/positions/open", headers=bearer(token)) for token in (before, after)
            ]
            assert [answer.status_code for answer in answers] == statuses
        assert await redeemed(overlapping, await ticket_for(old_node, before)) == 200
        assert await redeemed(new_node, await ticket_for(overlapping, before)) == 401


async def test_a_ticket_is_good_on_a_node_that_does_not_know_its_key_yet(
    migrated_url: str, redis_url: str, provider: JwksServer
) -> None:
    old, new = Signer("ES256", "old"), Signer("ES256", "new")
    provider.publish(old.jwk())
    async with (
        serving_with(migrated_url, redis_url, jwks_url=provider.url) as one,
        serving_with(migrated_url, redis_url, jwks_url=provider.url) as two,
    ):
        for client in (one, two):
            assert (
                await client.get("/api/v1/positions/open", headers=bearer(old.token()))
            ).status_code == 200
        provider.publish(old.jwk(), new.jwk())
        assert await redeemed(two, await ticket_for(one, new.token())) == 200


async def test_tickets_are_limited_for_each_user_and_the_answer_says_when_to_come_back(
    migrated_url: str, redis_url: str
) -> None:
    async with serving_with(migrated_url, redis_url, jwt_secret=SECRET) as client:
        token, other = secret_token(), secret_token(sub="11111111-2222-4333-8444-555555555555")
        answers = [await client.post("/api/v1/tickets", headers=bearer(token)) for _ in range(60)]
        refused = next(answer for answer in answers if answer.status_code != 200)
        assert refused.status_code == 429
        assert refused.json()["status"] == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert (await client.post("/api/v1/tickets", headers=bearer(other))).status_code == 200
        await asyncio.sleep(int(refused.headers["retry-after"]))
        assert (await client.post("/api/v1/tickets", headers=bearer(token))).status_code == 200
        assert str(USER) not in refused.text

"""One-time tickets: valid once, for seconds, and useless to a reader of Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis
from starlette.types import Scope

from auth.authenticator import Authenticator
from auth.identity import Identity
from auth.keys import SharedSecret
from auth.tickets import KEY_PREFIX, TICKET_SECONDS, Ticket, Tickets
from auth.tokens import Verifier
from realtime.embedded import EmbeddedServers
from realtime.errors import AuthenticationError
from tests.auth.issuer import RULES, SECRET, secret_token
from tests.auth.refused import refused


async def confirmed(_: Identity) -> None:
    """Accept every identity."""


@pytest.fixture
def tickets(redis: Redis) -> Tickets:
    return Tickets(redis=redis, confirm=confirmed)


@pytest.fixture
async def identity(verifier: Verifier) -> Identity:
    return await verifier.verify(secret_token(jti="one", scope="guardwire:admin read"))


def request(query: str, *values: str) -> Scope:
    headers = [(b"authorization", value.encode()) for value in values]
    return {"type": "http", "path": "/api/v1/stream", "query_string": query.encode(), "headers": headers}


async def test_a_ticket_stands_for_the_whole_identity_once(tickets: Tickets, identity: Identity) -> None:
    ticket = await tickets.issue(identity)
    assert ticket.expires_in_seconds == TICKET_SECONDS
    assert await tickets.redeem(ticket.text) == identity
    for _ in range(2):
        with refused("bad_ticket", secret=ticket.text):
            await tickets.redeem(ticket.text)


async def test_one_of_a_hundred_attempts_on_two_nodes_succeeds(
    redis: Redis, redis_url: str, identity: Identity
) -> None:
    other_redis = Redis.from_url(redis_url)
    nodes = [Tickets(redis=redis, confirm=confirmed), Tickets(redis=other_redis, confirm=confirmed)]
    ticket = await nodes[0].issue(identity)
    attempts = (nodes[number % 2].redeem(ticket.text) for number in range(100))
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert [outcome for outcome in outcomes if not isinstance(outcome, AuthenticationError)] == [identity]
    await other_redis.aclose()


async def test_a_ticket_is_256_random_bits_and_redis_holds_only_its_digest(
    redis: Redis, tickets: Tickets, identity: Identity
) -> None:
    texts = {(await tickets.issue(identity)).text for _ in range(50)}
    assert len(texts) == 50
    assert {len(text) for text in texts} == {43}
    keys = [key async for key in redis.scan_iter(match=f"{KEY_PREFIX}*")]
    assert len(keys) == 50
    for key in keys:
        held = key + (await redis.get(key) or b"")
        assert not any(text.encode() in held for text in texts)
        assert 20_000 < await redis.pttl(key) <= 30_000


async def test_a_ticket_that_was_not_used_in_time_is_gone(redis: Redis, identity: Identity) -> None:
    tickets = Tickets(redis=redis, confirm=confirmed, ticket_seconds=0.02)
    ticket, began = await tickets.issue(identity), time.monotonic()
    while [key async for key in redis.scan_iter(match=f"{KEY_PREFIX}*")]:
        assert time.monotonic() < began + 5
    with refused("bad_ticket", secret=ticket.text):
        await tickets.redeem(ticket.text)


async def test_a_ticket_lives_no_longer_than_the_token_behind_it(redis: Redis, identity: Identity) -> None:
    clock = [identity.expires_at - 2.0]
    holding = Verifier(keys=[SharedSecret(SECRET)], rules=RULES, clock=lambda: clock[0])
    tickets = Tickets(redis=redis, confirm=holding.confirm, clock=lambda: clock[0])
    ticket = await tickets.issue(identity)
    assert ticket.expires_in_seconds == 2.0
    (key,) = [key async for key in redis.scan_iter(match=f"{KEY_PREFIX}*")]
    assert await redis.pttl(key) <= 2000
    clock[0] = identity.expires_at
    with refused("expired", secret=ticket.text):
        await tickets.redeem(ticket.text)
    with refused("expired"):
        await tickets.issue(identity)


async def test_a_ticket_of_a_revoked_user_is_refused(redis: Redis, identity: Identity) -> None:
    revoking = Verifier(keys=[SharedSecret(SECRET)], rules=RULES, is_revoked=lambda _: True)
    tickets = Tickets(redis=redis, confirm=revoking.confirm)
    ticket = await tickets.issue(identity)
    with refused("revoked", secret=ticket.text):
        await tickets.redeem(ticket.text)


async def test_a_ticket_of_a_token_signed_with_another_secret_is_refused(
    redis: Redis, identity: Identity
) -> None:
    rotated = Verifier(keys=[SharedSecret(SECRET[::-1])], rules=RULES)
    tickets = Tickets(redis=redis, confirm=rotated.confirm)
    ticket = await tickets.issue(identity)
    with refused("unknown_key", secret=ticket.text):
        await tickets.redeem(ticket.text)


@pytest.mark.parametrize(
    "text", ["", "x", "a" * 42, "a" * 44, "a" * 42 + "=", "ä" * 43, "a" * 42 + "\n", "*" * 43]
)
async def test_text_that_is_no_ticket_never_reaches_redis(text: str) -> None:
    with refused("bad_ticket", secret=text):
        await Tickets(redis=None, confirm=confirmed).redeem(text)


@pytest.mark.parametrize(
    "value",
    [b"", b"{}", b"null", b"\xff", b'{"user_id": "admin"}', b"[" * 2000, b'{"user_id": 1, "scopes": []}'],
)
async def test_a_poisoned_ticket_is_refused(
    redis: Redis, tickets: Tickets, identity: Identity, value: bytes
) -> None:
    ticket = await tickets.issue(identity)
    (key,) = [key async for key in redis.scan_iter(match=f"{KEY_PREFIX}*")]
    await redis.set(key, value)
    with refused("bad_ticket", secret=ticket.text):
        await tickets.redeem(ticket.text)


async def test_tickets_are_unavailable_without_redis(identity: Identity) -> None:
    tickets = Tickets(redis=None, confirm=confirmed)
    with refused("unavailable"):
        await tickets.issue(identity)
    with refused("unavailable"):
        await tickets.redeem("a" * 43)


async def test_tickets_are_unavailable_where_redis_is_gone_or_has_something_else_there(
    redis: Redis, tickets: Tickets, identity: Identity
) -> None:
    nowhere = Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=1.0)
    gone = Tickets(redis=nowhere, confirm=confirmed)
    with refused("unavailable"):
        await gone.issue(identity)
    with refused("unavailable"):
        await gone.redeem("a" * 43)
    await nowhere.aclose()
    ticket = await tickets.issue(identity)
    (key,) = [key async for key in redis.scan_iter(match=f"{KEY_PREFIX}*")]
    await redis.delete(key)
    await redis.lpush(key, "a list, which GETDEL refuses")
    with refused("unavailable", secret=ticket.text):
        await tickets.redeem(ticket.text)


@pytest.fixture
def own_redis(servers: EmbeddedServers) -> Iterator[EmbeddedServers]:
    """A Redis of this test's own, which it may stop."""
    with EmbeddedServers.start(database_url=servers.database_url) as own:
        yield own


async def test_a_redis_that_hangs_is_given_up_in_seconds(
    own_redis: EmbeddedServers, identity: Identity
) -> None:
    assert own_redis.redis is not None
    pid = own_redis.redis.pid
    assert pid is not None
    client = Redis.from_url(own_redis.redis_url)
    tickets = Tickets(redis=client, confirm=confirmed)
    ticket = await tickets.issue(identity)
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with refused("unavailable"):
            await tickets.redeem(ticket.text)
        assert time.monotonic() - began < 4
    finally:
        os.kill(pid, signal.SIGCONT)
    await client.aclose()


async def test_a_ticket_is_taken_from_the_url_only_where_a_route_asks_for_one(
    verifier: Verifier, tickets: Tickets, identity: Identity
) -> None:
    authenticator = Authenticator(verifier=verifier, tickets=tickets)
    ticket = await tickets.issue(identity)
    with refused("in_url", secret=ticket.text):
        await authenticator.require(request(f"ticket={ticket.text}"))
    assert (
        await authenticator.from_headers_or_ticket(request(f"channels=guards&ticket={ticket.text}"))
        == identity
    )
    with refused("bad_ticket", secret=ticket.text):
        await authenticator.from_headers_or_ticket(request(f"ticket={ticket.text}"))


async def test_a_route_for_tickets_takes_a_header_too_and_nothing_else(
    verifier: Verifier, tickets: Tickets, identity: Identity
) -> None:
    authenticator = Authenticator(verifier=verifier, tickets=tickets)
    token = secret_token(jti="one", scope="guardwire:admin read")
    assert (
        await authenticator.from_headers_or_ticket(request("", f"Bearer {token}"))
    ).user_id == identity.user_id
    with refused("missing"):
        await authenticator.from_headers_or_ticket(request("channels=guards"))
    with refused("in_url", secret=token):
        await authenticator.from_headers_or_ticket(request(f"token={token}"))
    ticket = await tickets.issue(identity)
    for query, values in (
        (f"ticket={ticket.text}", (f"Bearer {token}",)),
        (f"ticket={ticket.text}&ticket={ticket.text}", ()),
    ):
        with refused("malformed", secret=ticket.text):
            await authenticator.from_headers_or_ticket(request(query, *values))
    with refused("bad_ticket"):
        await Authenticator(verifier=verifier).from_headers_or_ticket(request(f"ticket={ticket.text}"))


def test_a_ticket_does_not_show_its_text() -> None:
    assert "the-text" not in repr(Ticket("the-text", 30.0))

"""Hostile clients of `/graphql`: costly operations, no or bad credentials, and another user's data."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from realtime.delivery.graphql.answers import result
from realtime.delivery.graphql.bounds import MAX_ALIASES, MAX_FIELDS, SUBSCRIPTIONS_PER_SOCKET
from realtime.delivery.graphql.operations import DOCUMENTS_AT_ONCE, Operations
from realtime.delivery.graphql.schema import Shown
from realtime.owners import WrongOwner
from tests.delivery.graphql_client import PROFIT, acknowledged, client, events, example, post
from tests.delivery.stream_server import StreamServer, stream_server
from tests.hostile.test_second_wall import theirs
from tests.hostile.wall import MARK, blocks
from tests.machine import slowness
from tests.snapshots import FRESH, USER

REVISION = {"query": "{ account { revision } }"}


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    async with stream_server() as server:
        server.hub.reading(USER)
        server.publish(example(5))
        yield server


def nested(inner: str, around: str, times: int) -> str:
    return f"{around} {{ " * times + inner + " }" * times


def bombs() -> dict[str, str]:
    """Documents that would cost far more than they are long."""
    aliases = " ".join(f"a{number}: revision" for number in range(MAX_ALIASES + 1))
    same = "revision " * (MAX_FIELDS + 1)
    book = (
        "open { ticket symbol volume entryPrice currentPrice unrealizedPnl takeProfit stopLoss instrument }"
    )
    books = " ".join(f"b{number}: positions {{ {book} un: un{book[2:]} }}" for number in range(14)).replace(
        "unen", "unmatched"
    )
    doubling = " ".join(
        f"fragment t{n} on __Type {{ a: ofType {{ ...t{n + 1} }} b: ofType {{ ...t{n + 1} }} }}"
        for n in range(12)
    )
    types = "types { fields { args { type { name fields { args { type { name } } } } } } }"
    return {
        "deep": '{ __type(name: "Query") { ' + nested("name", "ofType", 20) + " } }",
        "aliases": "{ account { " + aliases + " } }",
        "repeated fields": "{ account { " + same + " } }",
        "tokens": "{ account { " + "revision @skip(if: false) " * 200 + " } }",
        "cost": "{ account { " + books + " } }",
        "introspection": "{ __schema { a: " + types + " b: " + types + " c: " + types + " } }",
        "introspection that goes round": "{ __schema { types { "
        + "fields { type { " * 4
        + "name"
        + " }" * 11,
        "fragments that spread themselves": "{ account { ...f } } fragment f on Account { ...f }",
        "fragments that double": "{ __schema { types { ...t0 } } } "
        + doubling
        + " fragment t12 on __Type { name }",
        "not closed": "{" * 300,
    }


@pytest.mark.parametrize("name", bombs())
async def test_a_bomb_is_refused_before_it_costs_anything(server: StreamServer, name: str) -> None:
    began = time.process_time()
    answer = await post(server, {"query": bombs()[name]})
    assert time.process_time() - began < 0.25 * slowness()
    assert answer.status_code == 400, answer.text[:200]
    assert {each["extensions"]["code"] for each in answer.json()["errors"]} == {"bad-request"}


async def test_a_request_that_is_too_large_is_not_read(server: StreamServer) -> None:
    answer = await post(server, {"query": "{ account { revision } } #" + "x" * 20_000})
    assert answer.status_code == 413
    assert answer.json()["errors"][0]["extensions"]["code"] == "content-too-large"


@pytest.mark.parametrize(
    "body",
    [
        [REVISION, REVISION],
        {"query": 5},
        {},
        b"nonsense",
        b"[" * 10_000,
        {"query": ""},
        {"query": "query A { account { revision } } query B { account { revision } }"},
        {"query": "query A { account { revision } }", "operationName": "B"},
        {"query": "mutation { acknowledge }"},
        {"query": "query($id: ID!) { account { position(id: $id) { ticket } } }"},
        {"query": "query($id: ID!) { account { position(id: $id) { ticket } } }", "variables": {"id": [1]}},
        {"query": "subscription { account { revision } }"},
        {"query": "subscription { account { revision } b: account { revision } }"},
        {"query": "{ account { nothing } }"},
    ],
)
async def test_what_is_no_request_is_answered_with_errors(server: StreamServer, body: Any) -> None:
    answer = await post(server, body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["message"]
    assert answer.json()["errors"][0]["extensions"]["code"] == "bad-request"


async def test_a_batch_is_told_why(server: StreamServer) -> None:
    answer = await post(server, [REVISION, REVISION])
    assert "batches are not taken" in answer.json()["errors"][0]["message"]


async def test_documents_that_differ_each_time_are_limited_and_known_ones_are_not(
    server: StreamServer,
) -> None:
    statuses = []
    for number in range(10 * DOCUMENTS_AT_ONCE):
        answer = await post(server, {"query": f"{{ account {{ a{number}: revision }} }}"})
        statuses.append(answer.status_code)
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
            break
    assert statuses[-1] == 429
    known = [await post(server, {"query": "{ account { a0: revision } }", "variables": {}}) for _ in range(5)]
    assert {each.status_code for each in known} == {200}


# Credentials.


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic dTpw"}]
)
async def test_nobody_is_answered_without_a_good_token(server: StreamServer, headers: dict[str, str]) -> None:
    answer = await post(server, REVISION, headers=headers)
    assert answer.status_code == 401
    assert "www-authenticate" in answer.headers
    assert answer.json()["errors"][0]["extensions"]["code"] == "unauthenticated"


async def test_a_token_that_has_ended_is_refused_on_each_way(server: StreamServer) -> None:
    ended = server.key.issue(USER, ttl_seconds=60, now=time.time() - 61)
    assert (await post(server, REVISION, headers={"Authorization": f"Bearer {ended}"})).status_code == 401
    with pytest.raises(InvalidStatus) as refused:
        async with client(server, headers={"Authorization": f"Bearer {ended}"}):
            pass
    assert refused.value.response.status_code == 401
    async with client(server) as opened:
        await opened.send(type="connection_init", payload={"token": ended})
        assert await opened.close_code() == 4001


async def test_a_token_in_the_address_is_refused(server: StreamServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with client(server, query=f"?token={server.token()}"):
            pass
    assert refused.value.response.status_code == 401


@pytest.mark.parametrize("subprotocols", [("graphql-ws",), ("guardwire.v1",)])
async def test_the_legacy_subprotocol_and_others_are_refused_at_the_handshake(
    server: StreamServer, subprotocols: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with client(server, subprotocols=subprotocols):
            pass
    assert refused.value.response.status_code == 400
    assert b"graphql-transport-ws" in (refused.value.response.body or b"")


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([{"type": "subscribe", "id": "a", "payload": {"query": PROFIT}}], 4401),
        ([{"type": "connection_init"}], 4401),
        ([{"type": "connection_init", "payload": {"token": "nonsense"}}], 4401),
        ([{"type": "connection_init", "payload": {"token": 5}}], 4400),
        ([{"type": "start", "id": "a", "payload": {}}], 4400),
        ([{"type": "subscribe"}], 4400),
        (["nonsense"], 4400),
        ([], 4408),
    ],
)
async def test_a_socket_that_does_not_say_who_it_is_is_closed(
    server: StreamServer, messages: list[Any], code: int
) -> None:
    async with client(server) as opened:
        for message in messages:
            await opened.connection.send(json.dumps(message))
        assert await opened.close_code() == code


async def test_a_second_initialisation_and_a_second_subscriber_end_the_socket(server: StreamServer) -> None:
    async with acknowledged(server, example(5)) as opened:
        await opened.send(type="connection_init", payload={"token": server.token()})
        assert await opened.close_code() == 4429
    async with acknowledged(server, example(5)) as opened:
        await opened.subscribe("a", PROFIT)
        await opened.subscribe("a", PROFIT)
        assert await opened.close_code() == 4409


async def test_a_socket_has_so_many_subscriptions_and_no_more(server: StreamServer) -> None:
    async with acknowledged(server, example(5)) as opened:
        for number in range(SUBSCRIPTIONS_PER_SOCKET):
            await opened.subscribe(f"{number}", PROFIT)
            assert (await opened.receive())["type"] == "next"
        await opened.subscribe("more", PROFIT)
        refused = await opened.receive()
        assert (refused["id"], refused["type"]) == ("more", "error")
        assert refused["payload"][0]["extensions"]["code"] == "too-many-requests"
        await opened.send(id="0", type="complete")
        await opened.subscribe("more", PROFIT)
        assert (await opened.receive())["type"] == "next"


async def test_a_bomb_over_a_socket_ends_nothing_but_itself(server: StreamServer) -> None:
    async with acknowledged(server, example(5)) as opened:
        await opened.subscribe("bomb", bombs()["aliases"])
        refused = await opened.receive()
        assert (refused["type"], refused["payload"][0]["extensions"]["code"]) == ("error", "bad-request")
        await opened.subscribe("a", PROFIT)
        assert (await opened.receive())["type"] == "next"


async def test_connections_of_all_transports_count_together(server: StreamServer) -> None:
    async with (
        acknowledged(server, example(5)),
        events(server, PROFIT) as stream,
        server.connect(headers=server.headers()),
    ):
        await anext(stream)
        await server.watched(clients=3)
        answer = await post(server, {"query": PROFIT}, Accept="text/event-stream")
        assert answer.status_code == 429
        assert answer.json()["errors"][0]["extensions"]["code"] == "too-many-requests"
        with pytest.raises(InvalidStatus) as refused:
            async with client(server, headers=server.headers()):
                pass
        assert refused.value.response.status_code == 429
        async with client(server) as opened:
            await opened.send(type="connection_init", payload={"token": server.token()})
            assert await opened.close_code() == 1013


# Another user's data, planted where a former wall should have stopped it.


async def test_another_accounts_snapshot_is_no_answer(
    server: StreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.hub.reading(USER).snapshot = theirs(9)
    with blocks(caplog, layer="read", whose=theirs(9).user_id):
        answer = await post(server, {"query": "{ account { patch } }"})
    assert answer.status_code == 503
    assert MARK not in answer.text


@pytest.mark.parametrize("transport", ["events", "websocket"])
async def test_another_accounts_snapshot_is_no_result_of_a_subscription(
    server: StreamServer, caplog: pytest.LogCaptureFixture, transport: str
) -> None:
    def plant() -> None:
        server.hub.reading(USER).snapshot = theirs(9)
        server.hub.reading(USER).wake(1.0, stale=False)

    whole = "subscription { account { patch } }"
    with blocks(caplog, layer="frame", whose=theirs(9).user_id):
        if transport == "events":
            async with events(server, whole) as stream:
                await anext(stream)
                await server.watched()
                plant()
                assert MARK not in str([event async for event in stream])
        else:
            async with acknowledged(server, example(5)) as opened:
                await opened.subscribe("a", whole)
                await opened.receive()
                plant()
                assert await opened.close_code() == 1013


async def test_a_plan_is_never_read_for_another_account(
    server: StreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    plan = Operations().plan(json.dumps(REVISION).encode(), USER)
    with blocks(caplog, layer="graphql answer", whose=theirs(9).user_id), pytest.raises(WrongOwner):
        result(plan, Shown(theirs(9), FRESH, False), USER)

"""GraphQL on a real server: the schema, queries, and subscriptions over Server-Sent Events and WebSocket."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from graphql import VariableValues, execute_sync, get_introspection_query, get_operation_ast, parse
from hypothesis import given, settings
from hypothesis_graphql import queries

from guardwire.state import AccountState, Position, Status
from realtime.delivery.graphql.operations import Operations
from realtime.delivery.graphql.plan import compile_plan
from realtime.delivery.graphql.schema import SCHEMA, Shown, camel_case, schema_text
from realtime.delivery.http.operations import EXAMPLE_STATE
from tests.delivery.graphql_client import PROFIT, acknowledged, ask, client, events, example, post
from tests.delivery.stream_server import StreamServer, stream_server
from tests.snapshots import FRESH, USER

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    async with stream_server() as server:
        server.hub.reading(USER)
        server.publish(example(5))
        yield server


# The schema.


def test_the_schema_in_the_repository_is_the_one_of_the_state() -> None:
    remedy = "run python -m realtime.delivery.graphql.schema > schema.graphql"
    assert (ROOT / "schema.graphql").read_text("utf-8") == schema_text(), remedy


@pytest.mark.parametrize("struct", [Status, Position])
def test_each_field_of_the_state_is_a_field_of_the_schema(struct: type[msgspec.Struct]) -> None:
    declared: Any = SCHEMA.type_map[struct.__name__]
    assert {camel_case(field) for field in struct.__struct_fields__} <= declared.fields.keys()


def test_each_channel_is_a_field_of_the_account() -> None:
    account: Any = SCHEMA.type_map["Account"]
    assert set(AccountState.__struct_fields__) <= account.fields.keys()


@settings(max_examples=60, deadline=None)
@given(queries(schema_text(), allow_x00=False))
def test_a_plan_reads_what_graphql_core_reads(drawn: str) -> None:
    shown = Shown(example(5), FRESH, False, example(4, profit=1.0))
    document = parse(drawn)
    operation = get_operation_ast(document)
    assert operation is not None
    plan = compile_plan(document, operation, VariableValues({}, {}))
    expected = execute_sync(SCHEMA, document, shown)
    assert expected.errors is None
    assert msgspec.json.encode(plan.read(shown)) == msgspec.json.encode(expected.data)


@pytest.mark.parametrize("with_it", [True, False])
def test_fragments_aliases_and_directives_are_what_graphql_core_takes_them_for(with_it: bool) -> None:
    document = """
      query Of($with: Boolean!, $symbol: String = "xauusd") {
        account { ...Both again: revision ... @include(if: $with) { userId } ... on Account { guards { __typename } } }
        account { positions(symbol: $symbol) { open { symbol ticket @skip(if: $with) } } }
      }
      fragment Both on Account { status { status ...More } status { source } ...Position }
      fragment Position on Account { position(id: "0b9c8d7e-6f5a-4b3c-9d2e-1f0a9b8c7d6e") { symbol } }
      fragment More on Status { recentEvents { id eventType } }
    """
    shown = Shown(example(5), FRESH, False)
    variables = {"with": with_it}
    body = msgspec.json.encode({"query": document, "variables": variables})
    expected = execute_sync(SCHEMA, parse(document), shown, variable_values=variables)
    assert expected.errors is None
    read = Operations().plan(body, USER).read(shown)
    assert msgspec.json.encode(read) == msgspec.json.encode(expected.data)


# Queries.


async def test_a_query_answers_what_it_names(server: StreamServer) -> None:
    data = await ask(
        server,
        "{ account { userId epoch revision stale ageMs positions { totalPositions open { symbol } } patch } }",
    )
    account = data["account"]
    assert (account["userId"], account["epoch"], account["revision"]) == (str(USER), 9, 5)
    assert account["stale"] is False
    assert 0 <= account["ageMs"] < 5_000
    assert account["positions"]["totalPositions"] == EXAMPLE_STATE["positions"]["total_positions"]
    assert account["patch"]["positions"] == example(5).state["positions"]


async def test_positions_of_a_symbol_have_totals_of_their_own(server: StreamServer) -> None:
    of_symbol = (
        "query($s: String) { account { positions(symbol: $s) { totalPositions totalUnrealizedPnl } } }"
    )
    everything = (await ask(server, of_symbol))["account"]["positions"]
    nothing = (await ask(server, of_symbol, s="EURGBP"))["account"]["positions"]
    gold = (await ask(server, of_symbol, s="xauUSD"))["account"]["positions"]
    assert nothing == {"totalPositions": 0, "totalUnrealizedPnl": 0.0}
    assert gold == everything


async def test_one_position_is_found_by_its_id_and_null_where_none_has_it(server: StreamServer) -> None:
    one = "query($id: ID!) { account { position(id: $id) { ticket symbol } } }"
    (ticket, position), *_ = EXAMPLE_STATE["positions"]["open"].items()
    found = await ask(server, one, id=position["position_id"])
    assert found["account"]["position"] == {"ticket": ticket, "symbol": position["symbol"]}
    assert (await ask(server, one, id="nothing"))["account"]["position"] is None


async def test_tools_may_ask_for_the_schema(server: StreamServer) -> None:
    everything = get_introspection_query(
        specified_by_url=True,
        directive_is_repeatable=True,
        schema_description=True,
        input_value_deprecation=True,
    )
    data = await ask(server, everything)
    assert "Account" in {each["name"] for each in data["__schema"]["types"]}


async def test_a_client_that_names_the_media_type_of_graphql_gets_it(server: StreamServer) -> None:
    accept = "application/graphql-response+json, application/json;q=0.9"
    answer = await post(server, {"query": "{ account { revision } }"}, Accept=accept)
    assert answer.headers["content-type"] == "application/graphql-response+json"


async def test_a_query_may_be_answered_as_events_too(server: StreamServer) -> None:
    async with events(server, "{ account { revision } }") as stream:
        assert [event async for event in stream] == [
            ("next", {"data": {"account": {"revision": 5}}}),
            ("complete", None),
        ]


# Subscriptions.


async def test_a_subscription_by_events_shows_each_change_and_nothing_else(server: StreamServer) -> None:
    async with events(server, PROFIT) as stream:
        assert await anext(stream) == ("next", profit_at(5, 5.25))
        await server.watched()
        first, second, third = example(5), example(6), example(7, profit=8.5)
        server.publish(second, first)  # nothing that is selected
        server.publish(third, second)
        assert await anext(stream) == ("next", profit_at(7, 8.5))


def profit_at(revision: int, profit: float) -> Any:
    return {"data": {"account": {"revision": revision, "positions": {"totalUnrealizedPnl": profit}}}}


async def test_patches_lead_from_one_result_to_the_next(server: StreamServer) -> None:
    patches = "subscription { account { base revision patch(channels: [positions]) } }"
    async with events(server, patches) as stream:
        _, whole = await anext(stream)
        assert whole["data"]["account"]["base"] is None
        assert whole["data"]["account"]["patch"] == {"positions": example(5).state["positions"]}
        await server.watched()
        server.publish(example(7, profit=8.5), example(5))
        assert await anext(stream) == (
            "next",
            {
                "data": {
                    "account": {
                        "base": 5, "revision": 7, "patch": {"positions": {"total_unrealized_pnl": 8.5}},
                    }
                }
            },
        )  # fmt: skip


async def test_staleness_is_a_result_of_its_own_where_it_is_selected(server: StreamServer) -> None:
    async with events(server, "subscription { account { stale } }") as stream:
        while not (await anext(stream))[1]["data"]["account"]["stale"]:
            pass
        server.publish(example(5))
        while (await anext(stream))[1]["data"]["account"]["stale"]:
            pass


async def test_a_subscription_by_events_ends_with_its_token(server: StreamServer) -> None:
    async with events(server, PROFIT, headers=server.headers(ttl_seconds=1.5)) as stream:
        *_, (name, last), complete = [event async for event in stream]
    assert name == "next"
    assert last["errors"][0]["extensions"]["code"] == "unauthenticated"
    assert complete == ("complete", None)


async def test_a_socket_carries_several_subscriptions_and_queries(server: StreamServer) -> None:
    async with acknowledged(server, example(5)) as opened:
        await opened.subscribe("a", PROFIT)
        assert await opened.receive() == {"id": "a", "type": "next", "payload": profit_at(5, 5.25)}
        await opened.subscribe("b", "subscription { account { status { totalSyncs } } }")
        assert (await opened.receive())["id"] == "b"
        await opened.subscribe("c", "{ account { revision } }")
        assert [(await opened.receive())["type"] for _ in range(2)] == ["next", "complete"]
        server.publish(example(6, profit=8.5), example(5))
        assert await opened.receive() == {"id": "a", "type": "next", "payload": profit_at(6, 8.5)}
        await opened.send(id="a", type="complete")
        await opened.send(type="ping")
        assert await opened.receive() == {"type": "pong"}
        server.publish(example(7, profit=9.5), example(6, profit=8.5))
        await opened.subscribe("d", "{ account { revision } }")
        assert (await opened.receive())["payload"] == {"data": {"account": {"revision": 7}}}


async def test_a_token_in_the_header_is_acknowledged_too(server: StreamServer) -> None:
    async with client(server, headers=server.headers()) as opened:
        await opened.send(type="connection_init")
        assert await opened.receive() == {"type": "connection_ack"}
        await opened.subscribe("a", PROFIT)
        assert (await opened.receive())["payload"] == profit_at(5, 5.25)


async def test_a_slow_reader_gets_the_newest_state_and_no_queue(server: StreamServer) -> None:
    patches = "subscription { account { base revision patch } }"
    async with acknowledged(server, example(5)) as opened:
        await opened.subscribe("a", patches)
        await opened.receive()
        (socket,) = server.sockets.all()
        socket.pause_writing()
        held = example(5)
        for revision in range(6, 60):
            newest = example(revision, profit=float(revision))
            server.publish(newest, held)
            held = newest
        socket.resume_writing()
        account = (await opened.receive())["payload"]["data"]["account"]
        assert (account["base"], account["revision"]) == (5, 59)
        assert account["patch"] == {"positions": {"total_unrealized_pnl": 59.0}}


@pytest.mark.parametrize("transport", ["events", "websocket"])
async def test_a_revoked_token_ends_a_subscription(server: StreamServer, transport: str) -> None:
    token_headers = server.headers()
    identity = await server.verifier.verify(token_headers["Authorization"].removeprefix("Bearer "))
    if transport == "events":
        async with events(server, PROFIT, headers=token_headers) as stream:
            await anext(stream)
            server.revoked.add(identity.token_id)
            rest = [event async for event in stream]
        assert rest[0][1]["errors"][0]["extensions"]["code"] == "forbidden"
        return
    async with client(server, headers=token_headers) as opened:
        await opened.send(type="connection_init")
        await opened.receive()
        await opened.subscribe("a", PROFIT)
        await opened.receive()
        server.revoked.add(identity.token_id)
        assert await opened.close_code() == 4403


async def test_a_socket_ends_with_its_token(server: StreamServer) -> None:
    began = time.monotonic()
    async with client(server) as opened:
        await opened.send(type="connection_init", payload={"token": server.token(ttl_seconds=1.5)})
        assert await opened.close_code() == 4001
    assert time.monotonic() - began >= 0.5


async def test_a_node_that_drains_lets_its_clients_come_back(server: StreamServer) -> None:
    async with acknowledged(server, example(5)) as opened, events(server, PROFIT) as stream:
        await anext(stream)
        leaving = asyncio.create_task(server.leave())
        assert await opened.close_code() == 1012
        assert [event async for event in stream] == []  # without `complete` a client subscribes again
        await leaving


# The extra.


def run(program: str) -> str:
    """The output of a new process that runs ``program``."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_node_loads_graphql_only_where_it_is_on() -> None:
    assert run("import app, sys; print('graphql' in sys.modules)") == "False\n"


def test_without_the_extra_a_node_says_what_to_install_and_does_not_start() -> None:
    program = """
import sys
sys.modules["graphql"] = None
from app import Node
from realtime.errors import ConfigurationError
from realtime.settings import Settings
try:
    Node(Settings(mode="development", database_url="postgresql://nobody@127.0.0.1:1/x", graphql="on"))
except ConfigurationError as error:
    print(error)
"""
    assert "install guardwire[graphql]" in run(program)

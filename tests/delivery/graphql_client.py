"""Speaks to `/graphql` of a `StreamServer` in plain words: requests, events, and messages of `graphql-transport-ws`."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from realtime.delivery.graphql.transport_ws import SUBPROTOCOL
from realtime.delivery.http.operations import EXAMPLE_STATE
from realtime.snapshot import Snapshot
from tests.delivery.stream_server import StreamServer
from tests.snapshots import AS_OF, USER

ALERTS: dict[str, Any] = {
    "unacknowledged": 1,
    "open": {
        "drawdown": {
            "generation": 2,
            "kind": "drawdown",
            "severity": "critical",
            "subject": "account",
            "first_raised_at": "2025-01-15T10:00:00.000000Z",
            "raised_at": "2025-01-15T10:29:00.000000Z",
            "occurrences": 3,
            "level": 1,
            "observed": 21.5,
        }
    },
    "attendance": {"armed": True, "status": "attended", "attendants": {"bot": {"since": AS_OF}}},
}
PROFIT = "subscription { account { revision positions { totalUnrealizedPnl } } }"


def example(revision: int, *, profit: float = 5.25, user_id: UUID = USER) -> Snapshot:
    """The example state of the documents, with this profit."""
    state = copy.deepcopy(EXAMPLE_STATE)
    state["positions"]["total_unrealized_pnl"] = profit
    state["alerts"] = copy.deepcopy(ALERTS)
    return Snapshot(user_id=user_id, epoch=9, revision=revision, as_of=AS_OF, state=state)


async def post(
    server: StreamServer, body: Any, *, headers: dict[str, str] | None = None, **more: str
) -> httpx.Response:
    """The answer to a POST; ``headers`` are a good token's unless they are given."""
    sent = server.headers() if headers is None else headers
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=10) as client:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"Content-Type": "application/json", **sent, **more}
        return await client.post(f"http://{server.address}/graphql", content=content, headers=named)


async def ask(server: StreamServer, query: str, **variables: Any) -> Any:
    """The data of a query that is answered."""
    answer = await post(server, {"query": query, "variables": variables})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


@contextlib.asynccontextmanager
async def events(
    server: StreamServer, query: str, *, headers: dict[str, str] | None = None
) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    """The events of a subscription, each with its name and its data; comments are left out."""
    named = {"Accept": "text/event-stream", **(headers or server.headers())}
    async with (
        httpx.AsyncClient(trust_env=False, verify=False, timeout=10) as client,
        client.stream(
            "POST", f"http://{server.address}/graphql", json={"query": query}, headers=named
        ) as answer,
    ):
        assert answer.status_code == 200, (await answer.aread()).decode()
        yield _events_of(answer.aiter_lines())


async def _events_of(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, Any]]:
    name = ""
    async for line in lines:
        field, _, value = line.partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data":
            yield name, json.loads(value) if value.strip() else None


class Client:
    """A WebSocket that speaks the protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **message: Any) -> None:
        """Send a message."""
        await self.connection.send(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        """The next message."""
        return dict(json.loads(await asyncio.wait_for(self.connection.recv(), 10)))

    async def subscribe(self, name: str, query: str, **variables: Any) -> None:
        """Ask for an operation."""
        await self.send(id=name, type="subscribe", payload={"query": query, "variables": variables})

    async def close_code(self) -> int:
        """The code with which the server closes; messages before the close are dropped."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.receive()
        assert self.connection.close_code is not None
        return self.connection.close_code


@contextlib.asynccontextmanager
async def client(
    server: StreamServer,
    *,
    headers: dict[str, str] | None = None,
    subprotocols: tuple[str, ...] = (SUBPROTOCOL,),
    query: str = "",
) -> AsyncIterator[Client]:
    """A WebSocket of `/graphql`; nothing is sent yet."""
    async with connect(
        f"ws://{server.address}/graphql{query}",
        subprotocols=[Subprotocol(name) for name in subprotocols],
        additional_headers=headers,
        compression=None,
    ) as connection:
        yield Client(connection)


@contextlib.asynccontextmanager
async def acknowledged(server: StreamServer, first: Snapshot) -> AsyncIterator[Client]:
    """A client whose ``connection_init`` was acknowledged, of the account of ``first``."""
    async with client(server) as opened:
        await opened.send(type="connection_init", payload={"token": server.token(first.user_id)})
        await server.watched(first.user_id, clients=max(1, server.clients(first.user_id)))
        server.publish(first)
        assert await opened.receive() == {"type": "connection_ack"}
        yield opened

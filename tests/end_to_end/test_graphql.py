"""Third parties mirror an account through `/graphql` of a whole node: PyPI's `gql` and npm's `graphql-ws`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest
from gql import Client, gql
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport

from guardwire.state import CHANNELS
from tests.client.waiting import eventually
from tests.end_to_end import tables
from tests.end_to_end.node import Node, node
from tests.end_to_end.ordinary import equity, row

_ROOT: Final = Path(__file__).parents[2]
_PROGRAM: Final = Path(__file__).with_name("graphql_outsider.js")
_LIBRARIES: Final = ("graphql-ws", "json-merge-patch", "ws")

PATCHES: Final = """
subscription { account { epoch revision base patch(channels: [status, positions, guards, alerts]) } }
"""
FIELDS: Final = """
subscription {
  account {
    revision
    status { totalSyncs recentEvents { id eventType } }
    positions { totalPositions totalUnrealizedPnl open { ticket symbol currentPrice unrealizedPnl takeProfit } }
    guards { drawdown { currentEquity alertType shouldCloseAll } breaches { id kind raisedAt } }
    alerts { unacknowledged open { id kind severity } attendance { status } }
  }
}
"""


@pytest.fixture
async def platform(migrated_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(migrated_url)
    yield connection
    await connection.close()


@pytest.fixture
async def server(migrated_url: str, redis_url: str) -> AsyncIterator[Node]:
    async with node(migrated_url, redis_url, graphql="on") as server:
        yield server


async def trade(platform: Any, user_id: UUID) -> None:
    """Positions open, move, diverge and close, and equity falls to where everything should close."""
    await tables.insert(platform, equity(user_id, 10_000), row(user_id), row(user_id, ticket=2))
    for step in range(12):
        await tables.insert(platform, row(user_id, price=f"{1956 + step}.25"), equity(user_id, 10_000 - step))
    await tables.insert(
        platform,
        row(user_id, ticket=2, matched=2, divergence_reason="volume_mismatch"),
        row(user_id, ticket=3, symbol="EURUSD", take_profit=Decimal("1.25")),
    )
    await tables.insert(platform, equity(user_id, 7_000))


async def whole(server: Node, user_id: UUID) -> Any:
    """The frame of REST with every channel."""
    return await server.get(f"/api/v1/state?channels={','.join(CHANNELS)}", user_id)


async def test_gql_mirrors_the_fields_of_an_account(server: Node, platform: Any) -> None:
    user_id = uuid4()
    held: dict[str, Any] = {}

    async def follow() -> None:
        transport = WebsocketsTransport(
            url=server.url.replace("http", "ws") + "/graphql", init_payload={"token": server.token(user_id)}
        )
        async with Client(transport=transport, fetch_schema_from_transport=True) as session:
            async for result in session.subscribe(gql(FIELDS)):
                held.update(result["account"])

    async with running(follow):
        await trade(platform, user_id)
        await eventually(lambda: held.get("guards", {}).get("drawdown", {}).get("shouldCloseAll"))
        frame = await settled(server, user_id, held)
    assert held == fields_of(frame)
    transport = HTTPXAsyncTransport(
        url=f"{server.url}/graphql", headers={"Authorization": f"Bearer {server.token(user_id)}"}
    )
    async with Client(transport=transport) as session:
        asked = await session.execute(gql(FIELDS.replace("subscription", "query")))
    assert asked["account"] == fields_of(frame)


def fields_of(frame: Any) -> dict[str, Any]:
    """The answer to `FIELDS`, made from a frame of REST."""
    status, positions, guards, alerts = (frame["state"][channel] for channel in CHANNELS)
    drawdown, breaches, raised = guards["drawdown"], guards["breaches"], alerts["open"]
    return {
        "revision": frame["revision"],
        "status": {
            "totalSyncs": status["total_syncs"],
            "recentEvents": [
                {"id": key, "eventType": event["event_type"]}
                for key, event in newest_first(status["recent_events"], "created_at")
            ],
        },
        "positions": {
            "totalPositions": positions["total_positions"],
            "totalUnrealizedPnl": positions.get("total_unrealized_pnl"),
            "open": [
                {
                    "ticket": ticket,
                    "symbol": position.get("symbol"),
                    "currentPrice": position.get("current_price"),
                    "unrealizedPnl": position.get("unrealized_pnl"),
                    "takeProfit": position.get("take_profit"),
                }
                for ticket, position in newest_first(positions["open"], "entry_time")
            ],
        },
        "guards": {
            "drawdown": {
                "currentEquity": drawdown.get("current_equity"),
                "alertType": drawdown["alert_type"],
                "shouldCloseAll": drawdown["should_close_all"],
            },
            "breaches": [
                {"id": key, "kind": breach["kind"], "raisedAt": breach["raised_at"]}
                for key, breach in newest_first(breaches, "raised_at")
            ],
        },
        "alerts": {
            "unacknowledged": alerts["unacknowledged"],
            "open": [
                {"id": key, "kind": alert["kind"], "severity": alert["severity"]}
                for key, alert in newest_first(raised, "raised_at")
            ],
            "attendance": {"status": alerts["attendance"]["status"]},
        },
    }


def newest_first(entries: dict[str, Any], time: str) -> list[tuple[str, Any]]:
    return sorted(entries.items(), key=lambda entry: (entry[1][time], entry[0]), reverse=True)


async def test_graphql_ws_mirrors_an_account_by_patches(server: Node, platform: Any) -> None:
    if (missing := lacking()) is not None:
        pytest.skip(missing)
    user_id = uuid4()
    held: dict[str, Any] = {}

    async def follow() -> None:
        asked = {
            "url": server.url.replace("http", "ws") + "/graphql",
            "token": server.token(user_id),
            "query": PATCHES,
        }
        async with outsider(asked) as lines:
            async for line in lines:
                held.update(json.loads(line))

    async with running(follow):
        await eventually(lambda: "revision" in held)
        await trade(platform, user_id)
        await eventually(lambda: held["state"]["guards"]["drawdown"]["should_close_all"])
        frame = await settled(server, user_id, held)
    assert held == {name: frame[name] for name in ("epoch", "revision", "state")}


@contextlib.asynccontextmanager
async def running(follow: Callable[[], Any]) -> AsyncIterator[None]:
    """Follow while the context lasts; a client that fails fails the test."""
    following = asyncio.create_task(follow(), name="graphql client")
    try:
        yield
    finally:
        if not following.done():
            following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def settled(server: Node, user_id: UUID, held: dict[str, Any]) -> Any:
    """The frame of REST, once the client holds its revision."""
    for _ in range(100):
        frame = await whole(server, user_id)
        if held.get("revision") == frame["revision"]:
            return frame
        await asyncio.sleep(0.05)
    raise AssertionError(f"the client is at {held.get('revision')} and the node at {frame['revision']}")


@contextlib.asynccontextmanager
async def outsider(asked: dict[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
    """The lines of the program in Node."""
    process = await asyncio.create_subprocess_exec(
        "node", str(_PROGRAM), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT, env={"PATH": os.environ["PATH"]}, limit=2**20,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(asked).encode())
    process.stdin.close()
    try:
        yield aiter(process.stdout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def lacking() -> str | None:
    """The part that the program needs and this machine lacks; None when nothing is missing."""
    if shutil.which("node") is None:
        return "Node.js is not here"
    missing = [name for name in _LIBRARIES if not (_ROOT / "node_modules" / name).is_dir()]
    return f"Node.js lacks {' and '.join(missing)} here: npm ci --ignore-scripts" if missing else None

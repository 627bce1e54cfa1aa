"""The open positions by GraphQL, against the document of REST with the same fields."""

from __future__ import annotations

import asyncio
import json

from tests.benchmarks.children import Child
from tests.benchmarks.figure import Figure
from tests.benchmarks.figures.rest import get
from tests.benchmarks.ground import Ground

_CONNECTIONS = 8
_REQUESTS = 250

_QUERY = """
{
  account {
    positions {
      totalPositions totalUnrealizedPnl totalUnrealizedPnlPct currency lastUpdatedAt
      open {
        positionId ticket symbol direction volume entryPrice entryTime currentPrice unrealizedPnl unrealizedPnlPct
        pnlCurrency contractSizeAssumed takeProfit stopLoss matched lastUpdatedAt instrument divergenceReason
        unconfirmedSince
      }
      unmatched { positionId ticket symbol }
    }
  }
}
"""


async def measure(ground: Ground) -> list[Figure]:
    """Server CPU of one query on a connection that is kept, and of one GET."""
    (token,) = ground.tokens(ground.users[:1])
    head = f"host: localhost\r\nauthorization: Bearer {token}\r\n"
    body = json.dumps({"query": _QUERY})
    post = (
        f"POST /graphql HTTP/1.1\r\n{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()
    document = f"GET /api/v1/positions/open HTTP/1.1\r\n{head}\r\n".encode()
    ours: list[float] = []
    theirs: list[float] = []
    async with ground.node(graphql=True) as node:
        for _ in range(ground.scale.samples + 1):
            for request, taken in ((post, ours), (document, theirs)):
                taken.append(await _cpu_us(node, request))
    name = "GraphQL query of ten positions, against the same document of REST"
    return [Figure(name=name, unit="µs", ours=ours[1:], reference=theirs[1:], target=4.0)]


async def _cpu_us(server: Child, request: bytes) -> float:
    before = await server.usage()
    await asyncio.gather(*(_ask(server.port, request) for _ in range(_CONNECTIONS)))
    after = await server.usage()
    return 1e6 * (after.cpu_seconds - before.cpu_seconds) / (_CONNECTIONS * _REQUESTS)


async def _ask(port: int, request: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(_REQUESTS):
        await get(reader, writer, request)
    writer.close()

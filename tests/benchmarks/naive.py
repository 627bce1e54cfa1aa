"""Child: the server that most people would write, and write well; a fair peer, without avoidable waste.

Every socket's task reads the whole state once a second in three queries, and sends all of it. The queries use the
table's indexes and read open positions alone; connections are pooled and statements prepared.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.benchmarks.children import given
from tests.benchmarks.stock import Announced, subject

_STATUS: Final = text("""
SELECT event_type, mt5_position_id, symbol, matched, created_at FROM reconciliation_logs
WHERE user_id = :user ORDER BY created_at DESC LIMIT 5
""")
_POSITIONS: Final = text("""
SELECT * FROM (
    SELECT DISTINCT ON (mt5_position_id) mt5_position_id, symbol, direction, volume, entry_price,
           current_price, take_profit, stop_loss, close_reason, matched, created_at
    FROM reconciliation_logs WHERE user_id = :user AND event_type IN ('sync', 'close')
    ORDER BY mt5_position_id, created_at DESC
) AS latest WHERE close_reason IS NULL AND matched = 1
""")
_GUARDS: Final = text("""
SELECT max(equity) AS peak, (array_agg(equity ORDER BY created_at DESC))[1] AS equity
FROM equity_snapshots WHERE user_id = :user
""")
_EVERY_SECONDS: Final = 1.0

_statements = itertools.count()


async def _rows(connection: AsyncConnection, query: Any, user: UUID) -> list[dict[str, Any]]:
    next(_statements)
    found = await connection.execute(query, {"user": user})
    return [{name: _plain(value) for name, value in row.items()} for row in found.mappings()]


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | str) else str(value)


def _application(engine: AsyncEngine, secret: str) -> Starlette:
    async def stream(websocket: WebSocket) -> None:
        user = UUID(subject(websocket, secret))
        await websocket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                async with engine.connect() as connection:
                    state = {
                        "status": await _rows(connection, _STATUS, user),
                        "positions": await _rows(connection, _POSITIONS, user),
                        "guards": await _rows(connection, _GUARDS, user),
                    }
                await websocket.send_json({"type": "snapshot", "state": state})
                await asyncio.sleep(_EVERY_SECONDS)

    return Starlette(routes=[WebSocketRoute("/ws", stream)])


def _counted() -> int:
    # The present count, without incrementing it.
    return int(repr(_statements).removeprefix("count(").removesuffix(")"))


if __name__ == "__main__":
    values = given()
    url = values["database_url"].replace("postgresql://", "postgresql+asyncpg://", 1)
    # A socket that has to wait for a connection waits. Giving up would make this server look cheaper.
    engine = create_async_engine(
        url, pool_size=20, pool_timeout=600, connect_args={"server_settings": {"jit": "off"}}
    )
    Announced(_application(engine, values["secret"]), _counted).run()

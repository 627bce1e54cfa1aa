"""Child: Starlette on uvicorn with their defaults, to compare the cost of a socket and a GET.

`/ws` authenticates and waits. `/beating` also sends a heartbeat every five seconds from the socket's task. A bare ASGI
function, without Starlette, answers any other path with the requested number of bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.benchmarks.children import announce, given

_HEARTBEAT_SECONDS = 5.0


class Announced(uvicorn.Server):
    """A stock server that announces its port."""

    def __init__(self, app: Any, counted: Any = lambda: 0, http: Any = "auto") -> None:
        super().__init__(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False, http=http)
        )
        self._counted = counted

    async def startup(self, sockets: Any = None) -> None:
        """Start, then announce the port."""
        await super().startup(sockets)
        announce(int(self.servers[0].sockets[0].getsockname()[1]), self._counted)


def subject(websocket: WebSocket, secret: str) -> str:
    """The user of the bearer token; raises PyJWT's errors."""
    token = websocket.headers["authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, secret, algorithms=["HS256"], audience="guardwire")
    return str(claims["sub"])


def _application(secret: str, body_bytes: int) -> Any:
    async def wait(websocket: WebSocket) -> None:
        subject(websocket, secret)
        await websocket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await websocket.receive_text()

    async def beat(websocket: WebSocket) -> None:
        subject(websocket, secret)
        await websocket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await asyncio.sleep(_HEARTBEAT_SECONDS)
                await websocket.send_json({"type": "heartbeat"})

    starlette = Starlette(routes=[WebSocketRoute("/ws", wait), WebSocketRoute("/beating", beat)])
    body = b"." * body_bytes
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % body_bytes)]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await starlette(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return application


if __name__ == "__main__":
    values = given()
    Announced(_application(values["secret"], values["body_bytes"]), http=values["http"]).run()

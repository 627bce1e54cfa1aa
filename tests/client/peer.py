"""A scripted WebSocket server on a real socket: a test sends each frame."""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from guardwire.messages import SUBPROTOCOL

AS_OF = "2026-01-05T09:00:00.000000Z"
EXPIRES_AT = 4_102_444_800
#: As a node of this release says it.
OFFERS = {
    "channels": ["status", "positions", "guards", "alerts"],
    "frames": ["ack", "snooze", "attend", "leave"],
}


class Visit:
    """One connection of a client, from the server's side."""

    def __init__(self, connection: ServerConnection, *, heartbeat_seconds: float = 5.0) -> None:
        self.connection = connection
        self.heartbeat_seconds = heartbeat_seconds
        request = connection.request
        assert request is not None
        self.path = request.path
        self.headers = request.headers

    async def say(self, **frame: Any) -> None:
        await self.connection.send(json.dumps(frame))

    async def welcome(
        self, *, epoch: int = 8, resumed: bool = False, offers: dict[str, Any] | None = None
    ) -> None:
        await self.say(
            **({} if offers is None else {"offers": offers}),
            type="welcome",
            session="s1",
            epoch=epoch,
            channels=["status", "positions", "guards"],
            expires_at=EXPIRES_AT,
            heartbeat_seconds=self.heartbeat_seconds,
            resumed=resumed,
        )

    async def snapshot(
        self, revision: int, state: dict[str, Any], *, epoch: int = 8, age_ms: int = 0
    ) -> None:
        await self.say(
            type="snapshot", epoch=epoch, revision=revision, as_of=AS_OF, age_ms=age_ms, state=state
        )

    async def begin(self, revision: int, state: dict[str, Any], *, epoch: int = 8) -> None:
        """Welcome and snapshot, as for a client that resumes nothing."""
        await self.welcome(epoch=epoch)
        await self.snapshot(revision, state, epoch=epoch)

    async def update(self, base: int, revision: int, patch: dict[str, Any], *, age_ms: int = 0) -> None:
        await self.say(type="update", base=base, revision=revision, as_of=AS_OF, age_ms=age_ms, patch=patch)

    async def heartbeat(self, base: int, revision: int, *, age_ms: int = 0, stale: bool = False) -> None:
        await self.say(
            type="heartbeat", base=base, revision=revision, as_of=AS_OF, age_ms=age_ms, stale=stale
        )

    async def heard(self) -> dict[str, Any]:
        """The next frame of the client."""
        frame: dict[str, Any] = json.loads(await self.connection.recv())
        return frame

    async def close(self, code: int, reason: str = "") -> None:
        await self.connection.close(code, reason)

    def cut(self) -> None:
        """As when a node is killed: no close frame."""
        self.connection.transport.abort()

    async def left(self) -> None:
        """Until the client is gone."""
        await self.connection.wait_closed()


class Peer:
    """The server; `visit` waits for the next client."""

    def __init__(self) -> None:
        self.url = ""
        self.server: Server | None = None
        #: Answers handshakes with an HTTP response instead, where it gives one.
        self.deny: Callable[[Request], Response | None] = lambda request: None
        self.tokens: list[str] = []
        #: As its welcomes say.
        self.heartbeat_seconds = 5.0
        self._visits: asyncio.Queue[Visit] = asyncio.Queue()

    async def visit(self) -> Visit:
        return await self._visits.get()

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[Server]:
        async with serve(
            self._on_connection,
            "127.0.0.1",
            port,
            process_request=self._on_request,
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            ping_interval=None,
            close_timeout=0.5,
        ) as server:
            self.server = server
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
            yield server

    async def _on_request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.tokens.append(request.headers.get("Authorization", "").removeprefix("Bearer "))
        return self.deny(request)

    async def _on_connection(self, connection: ServerConnection) -> None:
        self._visits.put_nowait(Visit(connection, heartbeat_seconds=self.heartbeat_seconds))
        with contextlib.suppress(ConnectionClosed):
            await connection.wait_closed()


def opening(peer: Peer, state: dict[str, Any], revision: int = 100) -> asyncio.Task[Visit]:
    """Welcomes the next client with ``state``."""

    async def answer() -> Visit:
        visit = await peer.visit()
        await visit.begin(revision, state)
        return visit

    return asyncio.get_running_loop().create_task(answer())


def denial(status: int, *, detail: str = "", **headers: str) -> Callable[[Request], Response]:
    """Answers every handshake with ``status`` and a problem document."""

    def deny(request: Request) -> Response:
        body = json.dumps({"title": http.HTTPStatus(status).phrase, "detail": detail}).encode()
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return Response(
            status,
            http.HTTPStatus(status).phrase,
            Headers({**fields, "Content-Length": str(len(body))}),
            body,
        )

    return deny

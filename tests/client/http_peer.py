"""A scripted server for all three transports; a test sends each frame, and may block the WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from guardwire import Account, connect
from guardwire.timing import Timing
from tests.client.peer import AS_OF, EXPIRES_AT
from tests.client.states import status


class Said:
    """Sends the frames of a test over one of the transports."""

    async def say(self, **frame: Any) -> None:
        raise NotImplementedError

    async def begin(self, revision: int, state: dict[str, Any], *, epoch: int = 8) -> None:
        await self.welcome(epoch=epoch, resumed=False)
        await self.say(**snapshot(revision, state, epoch=epoch))

    async def welcome(self, *, epoch: int = 8, resumed: bool) -> None:
        frame = {"session": "s", "epoch": epoch, "channels": ["status"], "expires_at": EXPIRES_AT}
        await self.say(type="welcome", heartbeat_seconds=5, resumed=resumed, **frame)

    async def update(self, base: int, revision: int, patch: dict[str, Any]) -> None:
        await self.say(**update(base, revision, patch))

    async def heartbeat(self, base: int, revision: int) -> None:
        await self.say(type="heartbeat", base=base, revision=revision, as_of=AS_OF, age_ms=0, stale=False)


class Streaming(Said):
    """One request for the event stream."""

    def __init__(self, request: Request) -> None:
        self.query = dict(request.query_params)
        self.headers = request.headers
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def say(self, **frame: Any) -> None:
        self.pieces.put_nowait(f"data: {json.dumps(frame)}\n\n".encode())

    def raw(self, piece: bytes) -> None:
        self.pieces.put_nowait(piece)

    def end(self) -> None:
        self.pieces.put_nowait(None)

    async def events(self) -> AsyncIterator[bytes]:
        while (piece := await self.pieces.get()) is not None:
            yield piece


class Polling:
    """One request for the state; the test answers it."""

    def __init__(self, request: Request) -> None:
        self.query = dict(request.query_params)
        self.headers = request.headers
        self.answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def frame(self, frame: dict[str, Any]) -> None:
        self.answer.set_result(Response(json.dumps(frame), media_type="application/json"))

    def unchanged(self, revision: int, *, age_ms: int | None = 0, stale: bool = False) -> None:
        headers = {"Guardwire-Revision": str(revision), "Guardwire-As-Of": AS_OF}
        headers["Guardwire-Stale"] = "true" if stale else "false"
        if age_ms is not None:
            headers["Guardwire-Age-Ms"] = str(age_ms)
        self.answer.set_result(Response(status_code=304, headers=headers))

    def refuse(self, status: int) -> None:
        self.answer.set_result(Response(status_code=status))

    def end(self) -> None:
        if not self.answer.done():
            self.refuse(503)


class Talking(Said):
    """One WebSocket."""

    def __init__(self, websocket: WebSocket) -> None:
        self.query = dict(websocket.query_params)
        self.websocket = websocket
        self.done = asyncio.Event()

    async def say(self, **frame: Any) -> None:
        await self.websocket.send_text(json.dumps(frame))


class HttpPeer:
    """``sockets``: ``denied`` as by a proxy that knows no upgrade, ``silent`` as by one that swallows all."""

    def __init__(self) -> None:
        self.url = ""
        self.sockets: Literal["denied", "silent", "served"] = "denied"
        self.stream_status = 200
        self.handshakes = 0
        #: The time limits of the clients that `streaming` and `polling` connect.
        self.timing = Timing()
        self.streaming: asyncio.Queue[Streaming] = asyncio.Queue()
        self.polling: asyncio.Queue[Polling] = asyncio.Queue()
        self.talking: asyncio.Queue[Talking] = asyncio.Queue()
        self._open: list[Streaming | Polling] = []

    def shorten(self, **limits: float) -> None:
        """Change these time limits of the clients."""
        self.timing = msgspec.structs.replace(self.timing, **limits)

    @asynccontextmanager
    async def listening(self, **options: Any) -> AsyncIterator[None]:
        app = Starlette(
            routes=[
                WebSocketRoute("/mount/ws", self._talk),
                Route("/mount/api/v1/stream", self._stream),
                Route("/mount/api/v1/state", self._poll),
            ]
        )
        config = uvicorn.Config(
            app,
            port=0,
            lifespan="off",
            log_config=None,
            ws="websockets-sansio",
            ws_ping_interval=None,
            **options,
        )
        server = uvicorn.Server(config)
        serving = asyncio.get_running_loop().create_task(server._serve())
        while not server.started:
            await asyncio.sleep(0.005)
        scheme = "https" if config.is_ssl else "http"
        self.url = f"{scheme}://localhost:{server.servers[0].sockets[0].getsockname()[1]}/mount"
        try:
            yield
        finally:
            for request in self._open:
                request.end()
            server.should_exit = server.force_exit = True
            await serving

    async def _talk(self, websocket: WebSocket) -> None:
        self.handshakes += 1
        if self.sockets == "denied":
            await websocket.send_denial_response(Response(status_code=404))
            return
        await websocket.accept(subprotocol="guardwire.v1")
        if self.sockets == "served":
            self.talking.put_nowait(Talking(websocket))
        try:
            while True:
                await websocket.receive_text()
        except WebSocketDisconnect:
            pass

    async def _stream(self, request: Request) -> Response:
        if self.stream_status != 200:
            return Response(status_code=self.stream_status)
        streaming = Streaming(request)
        self.streaming.put_nowait(streaming)
        self._open.append(streaming)
        return StreamingResponse(streaming.events(), media_type="text/event-stream")

    async def _poll(self, request: Request) -> Response:
        polling = Polling(request)
        self.polling.put_nowait(polling)
        self._open.append(polling)
        return await polling.answer


def snapshot(revision: int, state: dict[str, Any], *, epoch: int = 8) -> dict[str, Any]:
    return {
        "type": "snapshot",
        "epoch": epoch,
        "revision": revision,
        "as_of": AS_OF,
        "age_ms": 0,
        "state": state,
    }


def update(base: int, revision: int, patch: dict[str, Any]) -> dict[str, Any]:
    return {"type": "update", "base": base, "revision": revision, "as_of": AS_OF, "age_ms": 0, "patch": patch}


@asynccontextmanager
async def streaming(peer: HttpPeer, **options: Any) -> AsyncIterator[tuple[Account, Streaming]]:
    """An account with channel ``status`` at revision 100 over an event stream."""

    async def answer() -> Streaming:
        stream = await peer.streaming.get()
        await stream.begin(100, {"status": status()})
        return stream

    answered = asyncio.get_running_loop().create_task(answer())
    async with connect(peer.url, **(_usual(peer) | options)) as account:
        stream = await answered
        yield account, stream


@asynccontextmanager
async def polling(peer: HttpPeer, **options: Any) -> AsyncIterator[Account]:
    """An account with channel ``status`` at revision 100 over long polls."""

    async def answer() -> None:
        (await peer.polling.get()).frame(snapshot(100, {"status": status()}))

    answered = asyncio.get_running_loop().create_task(answer())
    peer.stream_status = 404
    async with connect(peer.url, **(_usual(peer) | options)) as account:
        await answered
        yield account


def _usual(peer: HttpPeer) -> dict[str, Any]:
    return {"token": lambda: "t0k3n", "channels": ["status"], "timing": peer.timing}


async def next_poll(peer: HttpPeer) -> Polling:
    return await asyncio.wait_for(peer.polling.get(), 5)


async def next_stream(peer: HttpPeer) -> Streaming:
    return await asyncio.wait_for(peer.streaming.get(), 5)

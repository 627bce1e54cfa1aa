"""uvicorn as this application needs it: our WebSocket class, bounded request heads, a drain before the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from realtime.delivery.handover import HandoverProtocol
from realtime.delivery.sse import ABORT

_SHUTDOWN_SECONDS: Final = 10
_HEAD_SECONDS: Final = 10.0


class Http(H11Protocol):
    """uvicorn's HTTP/1.1, with a deadline for request heads, and a way for a route to cut a stuck reader."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_deadline: asyncio.TimerHandle | None = None
        application = self.app

        async def abortable(scope: Any, receive: Any, send: Any) -> None:
            scope["extensions"] = {ABORT: self.transport.abort}
            await application(scope, receive, send)

        self.app = abortable

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # A first byte ends uvicorn's own deadline, and an endless head would hold its connection for ever.
        if self.conn.their_state is h11.IDLE:
            self._expect_head()
        else:
            self._forget_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._head_deadline is None:
            self._head_deadline = self.loop.call_later(_HEAD_SECONDS, self.transport.abort)

    def _forget_head(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None


class Server(uvicorn.Server):
    """Serves ``app``; ``drain`` is awaited before anything is closed.

    ``signals``: whether Ctrl-C and SIGTERM end it; else whoever started it does, by `should_exit`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        max_frame_bytes: int,
        drain: Callable[[], Awaitable[None]],
        signals: bool,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                ws=HandoverProtocol,
                # httptools takes endless request heads; h11 bounds them.
                http=Http,
                ws_max_size=max_frame_bytes,
                ws_per_message_deflate=False,
                ws_ping_interval=None,
                server_header=False,
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            )
        )
        # Its lines about handshakes repeat the whole URL, where somebody may have put a token.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        self._drain = drain
        self._signals = signals

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone where somebody else handles them."""
        with super().capture_signals() if self._signals else contextlib.nullcontext():
            yield

    async def shutdown(self, sockets: Any = None) -> None:
        """Clients first: each is told to come back, and when."""
        await self._drain()
        await super().shutdown(sockets)

    @property
    def port(self) -> int:
        """The port that it listens on, once started."""
        return int(self.servers[0].sockets[0].getsockname()[1])

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve in this event loop while the context lasts."""
        task = asyncio.create_task(self.serve(), name="server")
        try:
            while not self.started:
                if task.done():
                    await task
                await asyncio.sleep(0.005)
            yield
        finally:
            self.should_exit = True
            await task

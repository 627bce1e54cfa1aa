"""uvicorn with this project's WebSocket class, with bounded heads, and with a drain before the shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from realtime.delivery.limits import MAX_FRAME_BYTES
from realtime.delivery.server.deadlines import Deadlines, HttpTiming
from realtime.delivery.server.handover import HandoverProtocol
from realtime.delivery.server.http_protocol import HttpProtocol

log = logging.getLogger(__name__)

_SHUTDOWN_SECONDS: Final = 5
#: The most that the whole shutdown may take, also when a part of it hangs: supervisors kill a process after 30 s, and
#: then its log does not say why.
EXIT_SECONDS: Final = 24.0


class Server(uvicorn.Server):
    """Serves ``app``; ``drain`` is awaited before anything is closed.

    ``signals``: whether Ctrl-C and SIGTERM end it, in good order within `EXIT_SECONDS`, and a second one at
    once; else its owner does, by `should_exit`. ``trusted_proxies``: addresses and networks whose
    ``X-Forwarded-*`` headers are believed. ``max_waiting``: connections that may be open without a request.
    ``timing``: other time limits than the usual ones.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str | Sequence[str],
        port: int,
        drain: Callable[[], Awaitable[None]],
        signals: bool,
        trusted_proxies: Sequence[str] = (),
        max_waiting: int = 1000,
        timing: HttpTiming | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                _behind_proxies(app, trusted_proxies) if trusted_proxies else app,
                # asyncio takes several; with port 0 each of them gets one of its own.
                host=host,  # type: ignore[arg-type]
                port=port,
                ws=HandoverProtocol,
                http=functools.partial(
                    HttpProtocol, Deadlines(most_waiting=max_waiting, timing=timing or HttpTiming())
                ),  # type: ignore[arg-type]
                ws_max_size=MAX_FRAME_BYTES,
                ws_per_message_deflate=False,
                ws_ping_interval=None,
                server_header=False,
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
                proxy_headers=False,
            )
        )
        # Its lines about handshakes repeat the whole URL, and a client may have put a token there.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        self._drain = drain
        self._signals = signals

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone where the owner of the server handles them."""
        with super().capture_signals() if self._signals else contextlib.nullcontext():
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the shutdown at the first signal, and end the process at the second."""
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        late = threading.Timer(EXIT_SECONDS, _give_up)
        late.daemon = True
        late.start()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: Any = None) -> None:
        """Drain first: each client gets a close with the time at which to come back."""
        try:
            await self._drain()
        except Exception:
            log.exception("the drain failed; what is left is cut")
        await super().shutdown(sockets)

    @property
    def port(self) -> int:
        """The port on which the server listens, once it has started."""
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


def _give_up() -> None:
    log.critical("the way out took longer than %.0f s: ended where it stands", EXIT_SECONDS)
    logging.shutdown()
    os._exit(1)


def _behind_proxies(app: ASGIApp, trusted_proxies: Sequence[str]) -> Any:
    """``app`` with the addresses and schemes of clients that these proxies give in ``X-Forwarded-*`` headers."""
    read_headers: Any = ProxyHeadersMiddleware
    return read_headers(app, trusted_hosts=list(trusted_proxies))

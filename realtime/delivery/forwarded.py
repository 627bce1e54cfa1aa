"""What a trusted proxy says of its client: uvicorn reads ``X-Forwarded-*``, for both ways to answer."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from realtime.delivery.answer import Whole
from realtime.delivery.application import at_once_of


class Forwarded:
    """``app`` behind proxies whose word is taken: addresses and networks."""

    def __init__(self, app: ASGIApp, *, trusted_proxies: Sequence[str]) -> None:
        self._app = app
        self._at_once = at_once_of(app)
        self._read: Any = ProxyHeadersMiddleware(_nothing, trusted_hosts=list(trusted_proxies))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, one WebSocket, or the lifespan."""
        await self._read(scope, receive, send)
        await self._app(scope, receive, send)

    def at_once(self, scope: Scope) -> Whole | None:
        """See `Application.at_once`."""
        with contextlib.suppress(StopIteration):
            # It waits for nothing but what it calls, which is nothing; and reading twice changes nothing.
            self._read(scope, None, None).send(None)
        return self._at_once(scope)


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """Called when the scope has been read."""

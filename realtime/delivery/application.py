"""How requests go in: headers outermost, then errors into problems, then routes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from realtime.delivery.headers import Headers
from realtime.delivery.problems import handle


class Application:
    """Starlette's routing in layers of our own.

    `starlette.applications.Starlette` would put its own handler of unforeseen errors outermost, where its
    answer carries none of our headers, and raise the error on so that it is logged twice.
    """

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        *,
        lifespan: Lifespan[Any] | None = None,
        allowed_origins: Collection[str] = (),
    ) -> None:
        # A path with a slash too many is an unknown path: a redirect would trust the request's Host.
        self.router = Router(routes, redirect_slashes=False, lifespan=lifespan)
        # Starlette's types ask for its own Response, but any ASGI answer will do.
        handlers: dict[Any, Any] = {HTTPException: handle, Exception: handle}
        errors = ExceptionMiddleware(self.router, handlers=handlers)
        self._layers: ASGIApp = Headers(errors, allowed_origins=allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, one WebSocket, or the lifespan."""
        # By this Starlette's router knows that somebody will turn its 404 and 405 into answers.
        scope["app"] = self
        await self._layers(scope, receive, send)

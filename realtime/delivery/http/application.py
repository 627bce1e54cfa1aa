"""The ASGI application: headers outermost, then the middleware of problems, then the routes."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Sequence
from typing import Any, Final

from starlette.routing import BaseRoute, Match, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from realtime.delivery.http.middleware import HeadersMiddleware
from realtime.delivery.http.problems import NOT_FOUND, ProblemResponse, ProblemsMiddleware

_NO_SOCKET: Final = (
    "No WebSocket is at this path: check the client's address, and how proxies in between change it."
)


class Application:
    """Starlette's routing in middleware of this project.

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
        # A handshake is routed to WebSocket routes alone, never to a file.
        sockets = [route for route in routes if isinstance(route, WebSocketRoute)]
        self._sockets = Router(sockets, redirect_slashes=False, default=_no_socket)
        self._literal = _literal(routes)
        self._headers = HeadersMiddleware(ProblemsMiddleware(self._route), allowed_origins=allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, one WebSocket, or the lifespan."""
        # With this key Starlette's router raises its 404 and 405, which the middleware turns into problems.
        scope["app"] = self
        await self._headers(scope, receive, send)

    def _route(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Call the route that the router would find. Where the path alone decides, the search of the router is
        skipped.
        """
        endpoint: ASGIApp = self._sockets if scope["type"] == "websocket" else self.router
        if scope["type"] == "http" and not scope.get("root_path"):
            scope["path_params"] = {}
            endpoint = self._literal.get((scope["method"], scope["path"]), self.router)
        return endpoint(scope, receive, send)


async def _no_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer to a handshake at a path that no route knows; Starlette's own is 403 without a word."""
    await ProblemResponse(NOT_FOUND, detail=_NO_SOCKET)(scope, receive, send)


def _literal(routes: Sequence[BaseRoute]) -> dict[tuple[str, str], ASGIApp]:
    """The application that answers each method and path of the routes without parameters, by the router's own rules."""
    found: dict[tuple[str, str], ASGIApp] = {}
    for route in routes:
        if not isinstance(route, Route) or route.param_convertors or not route.methods:
            continue
        for method in route.methods:
            scope = {"type": "http", "method": method, "path": route.path}
            first = next(other for other in routes if other.matches(scope)[0] is Match.FULL)
            if first is route:
                found[method, route.path] = route.app
    return found

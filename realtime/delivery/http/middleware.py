"""Middleware for all answers: the request's id, the security headers, and CORS for allowed origins.

The id of a request is the caller's own where that is acceptable, else a new one. Answers, log lines and problems carry
it. The middleware is pure ASGI and stands outermost, so that errors, static files and refused handshakes carry the
headers, too.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from collections.abc import Awaitable, Collection
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auth.origins import parse
from realtime.delivery.security_headers import RawHeaders, security_headers
from realtime.logs import REQUEST_ID

_SANE = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_KEY: Final = "guardwire.request_id"
_LONGEST_SHOWN: Final = 36

#: An id must be unique and need not be secret. A random name of this process with a number costs a tenth of a random
#: id.
_PROCESS: Final = secrets.token_hex(6)
_numbers = itertools.count(1)


def request_id_of(scope: Scope) -> str:
    """The id of the request in ``scope``: the first ``X-Request-Id`` of at most 64 letters, digits, ``.``,
    ``_`` or ``-``, or a new one.
    """
    known: str | None = scope.get(_KEY)
    if known is None:
        known = scope[_KEY] = _chosen(scope) or f"{_PROCESS}-{next(_numbers):x}"
    return known


def shown_path(scope: Scope) -> str:
    """The path for a log line. A part longer than a user's id is left out, because it might be a credential."""
    return "/".join(part if len(part) <= _LONGEST_SHOWN else "…" for part in scope["path"].split("/"))


def _chosen(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode("ascii") if _SANE.fullmatch(value) else None
    return None


log = logging.getLogger(__name__)

#: Sent over https alone, because browsers must ignore this header over http. Behind a proxy the scheme is the one that
#: the proxy names.
_STRICT_TRANSPORT: Final = (b"strict-transport-security", b"max-age=31536000")

#: Answer headers that a page of another, allowed origin may read beside those that any page may.
EXPOSED: Final = (
    "ETag, Guardwire-Age-Ms, Guardwire-As-Of, Guardwire-Revision, Guardwire-Stale, Retry-After,"
    " WWW-Authenticate, X-Request-Id"
)
_PREFLIGHT: Final[RawHeaders] = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, If-None-Match, Last-Event-ID, X-Request-Id",
    ),
    (b"access-control-max-age", b"600"),
    (b"content-length", b"0"),
]

_HOSTS_REMEMBERED: Final = 64

#: The key in the scope of a request whose answer has begun.
ANSWERING: Final = "guardwire.answering"

_STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start"})


class HeadersMiddleware:
    """Adds the headers to every answer of ``app`` over HTTP.

    ``allowed_origins`` are the origins of other sites whose pages may read answers, such as
    ``https://desk.example``; no cookie is ever allowed along, for there are none.
    """

    def __init__(self, app: ASGIApp, *, allowed_origins: Collection[str] = ()) -> None:
        self._app = app
        # Compared as origins: https://desk.example and https://desk.example:443 are one.
        self._allowed_origins = frozenset(filter(None, map(parse, allowed_origins)))
        self._by_host: dict[bytes, RawHeaders] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or handshake."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        REQUEST_ID.set(request_id_of(scope))
        asked = dict(scope["headers"])
        added = self._added(scope, asked)
        if self._allowed_origins and scope["type"] == "http" and _is_preflight(scope, asked):
            await send({"type": "http.response.start", "status": 204, "headers": [*added, *_PREFLIGHT]})
            await send({"type": "http.response.body", "body": b""})
            return

        def send_with_headers(message: Message) -> Awaitable[None]:
            if message["type"] in _STARTS:
                scope[ANSWERING] = True
                if log.isEnabledFor(logging.DEBUG):
                    _tell(scope, message["status"])
                message["headers"] = [*message.get("headers", ()), *added]
            return send(message)

        await self._app(scope, receive, send_with_headers)

    def _added(self, scope: Scope, asked: dict[bytes, bytes]) -> RawHeaders:
        request_id = (b"x-request-id", request_id_of(scope).encode())
        added = [request_id, *self._policy(asked.get(b"host", b""))]
        if scope["scheme"] in ("https", "wss"):
            added.append(_STRICT_TRANSPORT)
        if self._allowed_origins:
            added += self._cors(asked.get(b"origin", b""))
        return added

    def _policy(self, host: bytes) -> RawHeaders:
        """The headers that are the same for all requests to ``host``."""
        known = self._by_host.get(host)
        if known is None:
            if len(self._by_host) >= _HOSTS_REMEMBERED:
                # A client that sends many host names cannot fill the memory: the headers of each are computed anew.
                self._by_host.clear()
            known = self._by_host[host] = security_headers(host)
        return known

    def _cors(self, origin: bytes) -> RawHeaders:
        # Sent to every origin, so that a cache does not give one site's answer to another.
        headers = [(b"vary", b"Origin")]
        if origin and parse(origin.decode("latin-1")) in self._allowed_origins:
            headers += [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", EXPOSED.encode()),
            ]
        return headers


def _tell(scope: Scope, status: int) -> None:
    method = scope.get("method", "WEBSOCKET")
    extra = {
        "method": method,
        "path": shown_path(scope),
        "status": status,
        "request_id": request_id_of(scope),
    }
    log.debug("answered", extra=extra)


def _is_preflight(scope: Scope, asked: dict[bytes, bytes]) -> bool:
    return scope["method"] == "OPTIONS" and b"origin" in asked and b"access-control-request-method" in asked

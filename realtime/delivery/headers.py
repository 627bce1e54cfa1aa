"""The headers that every answer carries, whoever made it: request id, security policy, and CORS for allowed
origins only.

Pure ASGI. It stands outermost, so that errors, static files and refused handshakes carry them too.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Collection
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from realtime.delivery.answer import RawHeaders, Whole
from realtime.delivery.request_id import request_id_of, shown_path
from realtime.logs import REQUEST_ID

log = logging.getLogger(__name__)

_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'{sockets}; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
_FIXED: Final[RawHeaders] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
#: Told over https alone: a browser must ignore it over http, and behind a proxy the scheme is the proxy's
#: word.
_STRICT_TRANSPORT: Final = (b"strict-transport-security", b"max-age=31536000")

#: Answer headers that a page of another, allowed origin may read beside those that any page may.
EXPOSED: Final = (
    "ETag, Guardwire-Age-Ms, Guardwire-As-Of, Guardwire-Revision, Guardwire-Stale, Retry-After,"
    " WWW-Authenticate, X-Request-Id"
)
_PREFLIGHT: Final[RawHeaders] = [
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, If-None-Match, Last-Event-ID, X-Request-Id",
    ),
    (b"access-control-max-age", b"600"),
    (b"content-length", b"0"),
]

# A host as a content security policy can name it; that leaves out IPv6, for which 'self' has to do.
_HOST = re.compile(rb"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?")
_HOSTS_REMEMBERED: Final = 64

#: In the scope of a request whose answer has begun.
ANSWERING: Final = "guardwire.answering"

_STARTS: Final = frozenset({"http.response.start", "websocket.http.response.start"})


class Headers:
    """Adds them to everything that ``app`` answers over HTTP.

    ``allowed_origins`` are the origins of other sites whose pages may read answers, such as
    ``https://desk.example``; no cookie is ever allowed along, for there are none.
    """

    def __init__(self, app: ASGIApp, *, allowed_origins: Collection[str] = ()) -> None:
        self._app = app
        self._allowed_origins = frozenset(origin.lower().encode() for origin in allowed_origins)
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

    def on(self, answer: Whole, scope: Scope) -> Whole:
        """``answer`` with what is added to every one."""
        if log.isEnabledFor(logging.DEBUG):
            _tell(scope, answer.status)
        headers = [*answer.headers, *self._added(scope, dict(scope["headers"]))]
        return Whole(answer.status, headers, answer.body)

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
                # Whoever sends many host names gets them worked out each time, and cannot fill the memory.
                self._by_host.clear()
            known = self._by_host[host] = security_headers(host)
        return known

    def _cors(self, origin: bytes) -> RawHeaders:
        # Said to every origin: a cache must not give one site's answer to another.
        headers = [(b"vary", b"Origin")]
        if origin.lower() in self._allowed_origins:
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


def security_headers(host: bytes) -> RawHeaders:
    """What tells browsers to be careful, for answers of ``host`` that never came near `Headers`."""
    return [(b"content-security-policy", _policy_for(host)), *_FIXED]


def _policy_for(host: bytes) -> bytes:
    # In older browsers (Safari before 15.4) 'self' does not cover a WebSocket to the page's own host, so it
    # is named.
    sockets = f" ws://{host.decode()} wss://{host.decode()}" if _HOST.fullmatch(host) else ""
    return _CONTENT_SECURITY_POLICY.format(sockets=sockets).encode()


def _is_preflight(scope: Scope, asked: dict[bytes, bytes]) -> bool:
    return scope["method"] == "OPTIONS" and b"origin" in asked and b"access-control-request-method" in asked

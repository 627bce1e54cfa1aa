"""Errors over HTTP: problem details (RFC 9457), each with a type that is documented at its own address.

``detail`` says how to correct the request, and ``request_id`` finds the problem in the server's log. A problem repeats
the path of the request and nothing else of it: no query and no header, so that no token can come back in one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import msgspec
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auth.refusals import challenge
from realtime.delivery.http.middleware import ANSWERING, request_id_of, shown_path
from realtime.delivery.http.responses import CompleteResponse, send_json
from realtime.errors import AuthenticationError, TooManyClaims, UnavailableError
from realtime.metrics import METRICS
from realtime.owners import WrongOwner

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
TYPES_PATH: Final = "/api/v1/problems"
RETRY_AFTER_SECONDS: Final = 1
_INSTANCE_CHARACTERS: Final = 1024


class ProblemType(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of problem: what it is called for programs and for people, and what usually mends it."""

    name: str
    status: int
    title: str
    mend: str

    @property
    def uri(self) -> str:
        """The ``type`` member: a reference that leads to this kind's documentation on the same server."""
        return f"{TYPES_PATH}/{self.name}"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A problem document (RFC 9457, 3.1); ``instance`` is the path that was asked for, empty where none could
    be read.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str


BAD_REQUEST: Final = ProblemType(
    name="bad-request",
    status=400,
    title="This is no request that can be answered",
    mend="Send a well-formed request of HTTP/1.1 with one `Host` header; the detail says what is wrong.",
)
UNAUTHENTICATED: Final = ProblemType(
    name="unauthenticated",
    status=401,
    title="Who is asking is not known",
    mend="Send a valid token of this server's issuer as `Authorization: Bearer …`.",
)
FORBIDDEN: Final = ProblemType(
    name="forbidden",
    status=403,
    title="Not allowed",
    mend="Access was revoked, or this needs an origin or a scope that the request has not; a new token of"
    " the same kind does not help.",
)
NOT_FOUND: Final = ProblemType(
    name="not-found",
    status=404,
    title="Nothing is here for you",
    mend="Check the path against /api/v1/openapi.json; what belongs to another account looks as if it were"
    " not there.",
)
METHOD_NOT_ALLOWED: Final = ProblemType(
    name="method-not-allowed",
    status=405,
    title="This cannot be done here",
    mend="Use one of the methods that the `Allow` header names.",
)
CONFLICT: Final = ProblemType(
    name="conflict",
    status=409,
    title="This is not as the request supposes",
    mend="Read it again, and decide anew; the detail says what is different.",
)
CONTENT_TOO_LARGE: Final = ProblemType(
    name="content-too-large",
    status=413,
    title="The body is too large",
    mend="Send less; the detail says how much is taken.",
)
INVALID_PARAMETER: Final = ProblemType(
    name="invalid-parameter",
    status=422,
    title="A parameter has no meaning",
    mend="Correct the parameter that the detail names.",
)
UPGRADE_REQUIRED: Final = ProblemType(
    name="upgrade-required",
    status=426,
    title="Only a WebSocket handshake is answered here",
    mend="Send `Upgrade: websocket` and `Connection: Upgrade`. Where the client does, the usual cause is a"
    " proxy in between that drops them: let it pass both headers on, over HTTP/1.1.",
)
TOO_MANY_REQUESTS: Final = ProblemType(
    name="too-many-requests",
    status=429,
    title="Asked too often",
    mend="Wait as long as `Retry-After` says; to follow an account use the stream, which costs less for both"
    " sides.",
)
HEAD_TOO_LARGE: Final = ProblemType(
    name="head-too-large",
    status=431,
    title="The request's head is too large",
    mend="Send fewer or shorter headers; the detail says how many bytes are taken.",
)
INTERNAL: Final = ProblemType(
    name="internal",
    status=500,
    title="The server made a mistake",
    mend="Try again; if it happens again, report the request id, which is in the server's log beside the"
    " cause.",
)
UNAVAILABLE: Final = ProblemType(
    name="unavailable",
    status=503,
    title="The answer cannot be had now",
    mend="Try again as `Retry-After` says.",
)
TYPES: Final[Mapping[str, ProblemType]] = {
    kind.name: kind
    for kind in (
        BAD_REQUEST, UNAUTHENTICATED, FORBIDDEN, NOT_FOUND, METHOD_NOT_ALLOWED, CONFLICT, CONTENT_TOO_LARGE,
        INVALID_PARAMETER, UPGRADE_REQUIRED, TOO_MANY_REQUESTS, HEAD_TOO_LARGE, INTERNAL, UNAVAILABLE,
    )
}  # fmt: skip
_BY_STATUS: Final = {kind.status: kind for kind in TYPES.values()}


class ProblemResponse:
    """The ASGI answer with a problem document; also the refusal of a WebSocket handshake."""

    def __init__(
        self, kind: ProblemType, *, detail: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """``detail`` is what mends this very problem, None for what usually does."""
        self.kind = kind
        self.detail = detail or kind.mend
        self.headers = dict(headers or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self.response(scope)
        prefix = "websocket." if scope["type"] == "websocket" else ""
        start: Message = {
            "type": f"{prefix}http.response.start",
            "status": answer.status,
            "headers": answer.headers,
        }
        await send(start)
        await send({"type": f"{prefix}http.response.body", "body": answer.body})

    def response(self, scope: Scope) -> CompleteResponse:
        """The answer to the request in ``scope``, without what `Headers` adds; HEAD gets no document."""
        body = msgspec.json.encode(self.document(scope))
        headers = {
            "content-type": MEDIA_TYPE,
            "content-length": str(len(body)),
            "cache-control": "no-store",
            **self.headers,
        }
        lines = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        return CompleteResponse(self.kind.status, lines, b"" if scope.get("method") == "HEAD" else body)

    def document(self, scope: Scope) -> Problem:
        """The document of this problem for the request in ``scope``."""
        return Problem(
            type=self.kind.uri if self.kind.name in TYPES else "about:blank",
            title=self.kind.title,
            status=self.kind.status,
            detail=self.detail,
            instance=quote(scope.get("path", "")[:_INSTANCE_CHARACTERS], safe="/:@!$&'()*+,;=-._~"),
            request_id=request_id_of(scope),
        )


def unavailable(
    detail: str | None = None, *, retry_after_seconds: int = RETRY_AFTER_SECONDS
) -> ProblemResponse:
    """503, with when to try again."""
    return ProblemResponse(UNAVAILABLE, detail=detail, headers={"retry-after": str(retry_after_seconds)})


def problem_of(error: Exception) -> ProblemResponse | None:
    """The answer to a request that ``error`` ended; None for an unforeseen error."""
    match error:
        case AuthenticationError(status=503) | UnavailableError():
            return unavailable(str(error) or None)
        case WrongOwner():
            return unavailable()
        case TooManyClaims():
            headers = {"retry-after": str(error.retry_after_seconds)}
            return ProblemResponse(TOO_MANY_REQUESTS, detail=f"{error}.".capitalize(), headers=headers)
        case AuthenticationError():
            return _of_authentication_error(error)
        case HTTPException():
            return _of_http_exception(error)
        case _:
            return None


def _of_authentication_error(error: AuthenticationError) -> ProblemResponse:
    kind = FORBIDDEN if error.status == 403 else UNAUTHENTICATED
    # The challenge is sent only where other credentials would help: a page of a refused origin is not to ask its user
    # for credentials.
    helps = error.status == 401 or error.reason == "scope"
    return ProblemResponse(
        kind, detail=str(error), headers={"www-authenticate": challenge(error)} if helps else None
    )


def _of_http_exception(error: HTTPException) -> ProblemResponse:
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if "allow" in headers:
        # Starlette names them in the order of a set.
        headers["allow"] = ", ".join(sorted(headers["allow"].split(", ")))
    kind = _BY_STATUS.get(error.status_code)
    if kind is not None:
        # Without a detail Starlette puts the status in words, and the type's own sentence says more.
        has_detail = error.detail != HTTPException(error.status_code).detail
        return ProblemResponse(kind, detail=error.detail if has_detail else None, headers=headers)
    # RFC 9457, 4.2.1: a problem that says no more than its status is of the type about:blank.
    status = HTTPStatus(error.status_code)
    blank = ProblemType(
        name="", status=status.value, title=status.phrase, mend=f"{status.description or status.phrase}."
    )
    return ProblemResponse(blank, headers=headers)


def answer_to(error: Exception, scope: Scope) -> ProblemResponse:
    """The answer to the request that ``error`` ended; an unforeseen error is logged with its cause."""
    problem = problem_of(error)
    if isinstance(error, AuthenticationError):
        METRICS.auth_failures.add(1, error.reason)
    if problem is not None:
        return problem
    extra = {"request_id": request_id_of(scope), "method": scope["method"], "path": shown_path(scope)}
    log.error("request failed: %s", type(error).__name__, exc_info=error, extra=extra)
    return ProblemResponse(INTERNAL)


class ProblemsMiddleware:
    """Turns every exception that ``app`` raises for an HTTP request into a problem.

    Not Starlette's ExceptionMiddleware, which costs a request object and two closures where nothing is wrong.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whether a handshake was answered is known to its own endpoint alone."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if ANSWERING in scope:
                # Half an answer is out. The server must cut the connection, so that no client takes it for a whole one.
                raise
            await answer_to(error, scope)(scope, receive, send)


class ProblemDescription(msgspec.Struct, frozen=True, kw_only=True):
    """The meaning of one type of problem, and how it is usually corrected."""

    type: str
    status: int
    title: str
    mend: str


def describe_type(kind: ProblemType) -> ProblemDescription:
    """The document that the type's address leads to."""
    return ProblemDescription(type=kind.uri, status=kind.status, title=kind.title, mend=kind.mend)


class ProblemTypes:
    """GET /api/v1/problems and /api/v1/problems/{name}: what the ``type`` of a problem leads to."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path_params"].get("name")
        if name is not None and name not in TYPES:
            raise HTTPException(404)
        document = (
            [describe_type(kind) for kind in TYPES.values()] if name is None else describe_type(TYPES[name])
        )
        await send_json(
            scope, send, msgspec.json.encode(document), [(b"cache-control", b"public, max-age=3600")]
        )

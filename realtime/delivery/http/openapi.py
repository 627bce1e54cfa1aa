"""The description of the HTTP interface (OpenAPI 3.1), made from the types that answers are made of.

A route is described by one `Operation` beside the code that answers it; the document is put together and
encoded once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from realtime.delivery.http.problems import (
    BAD_REQUEST,
    FORBIDDEN,
    HEAD_TOO_LARGE,
    INTERNAL,
    MEDIA_TYPE,
    METHOD_NOT_ALLOWED,
    UNAUTHENTICATED,
    UNAVAILABLE,
    Problem,
    ProblemResponse,
    ProblemType,
)
from realtime.delivery.http.responses import TAG_PATTERN, is_held, not_modified, send_complete, send_json

#: The version of the interface, not of the program: it grows when clients may rely on something more.
API_VERSION: Final = "1.0.0"
_REFERENCE: Final = "#/components/schemas/{name}"

Json = dict[str, Any]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One route, as its callers need to know it.

    ``answers`` is the type of the document of a 200 and ``example`` one such document. ``needs_token``: it is
    refused without a bearer token. ``is_versioned``: it carries an entity tag and how old its data is, and is
    confirmed by 304. ``problems`` are those that it may end in beside the usual ones.
    """

    path: str
    operation_id: str
    summary: str
    tag: str
    answers: Any
    example: Any
    method: str = "get"
    media_type: str = "application/json"
    description: str = ""
    needs_token: bool = False
    is_versioned: bool = False
    parameters: tuple[Json, ...] = ()
    takes: Any = None
    takes_example: Any = None
    problems: tuple[ProblemType, ...] = ()
    other_answers: Mapping[str, Json] = {}


class OpenApi:
    """GET /api/v1/openapi.json."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.document = describe(operations)
        self._body = msgspec.json.encode(self.document)
        self._tag = f'"{hashlib.sha256(self._body).hexdigest()[:16]}"'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"etag", self._tag.encode()), (b"cache-control", b"public, no-cache")]
        if is_held(scope, self._tag):
            await send_complete(send, not_modified(headers))
        else:
            await send_json(scope, send, self._body, headers)


def describe(operations: Sequence[Operation]) -> Json:
    """The OpenAPI document of ``operations``."""
    types = [
        Problem,
        *(each.answers for each in operations),
        *(each.takes for each in operations if each.takes),
    ]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schema_of = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, Json] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method] = _operation(each, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Guardwire",
            "version": API_VERSION,
            "summary": "Live account state over plain HTTP",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "headers": _HEADERS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(operation: Operation, schema_of: Json) -> Json:
    described: Json = {
        "operationId": operation.operation_id,
        "summary": operation.summary,
        "description": operation.description or operation.summary,
        "tags": [operation.tag],
        "security": [{"bearer": []}] if operation.needs_token else [],
        "parameters": [*operation.parameters, *((_IF_NONE_MATCH,) if operation.is_versioned else ())],
        "responses": _responses(operation, schema_of[repr(operation.answers)]),
    }
    if operation.takes is not None:
        content = {
            "schema": schema_of[repr(operation.takes)],
            "example": msgspec.to_builtins(operation.takes_example),
        }
        described["requestBody"] = {"required": True, "content": {"application/json": content}}
    return described


def _responses(operation: Operation, schema: Json) -> Json:
    content = {"schema": schema, "example": msgspec.to_builtins(operation.example)}
    answer: Json = {"description": "The document.", "content": {operation.media_type: content}}
    responses: Json = {"200": answer, **operation.other_answers}
    problems = [BAD_REQUEST, METHOD_NOT_ALLOWED, HEAD_TOO_LARGE, INTERNAL, *operation.problems]
    if operation.is_versioned:
        answer["headers"] = _references(_FRESHNESS_HEADERS)
        responses["304"] = {
            "description": "What `If-None-Match` names is still the newest state.",
            "headers": _references(_FRESHNESS_HEADERS),
        }
    if operation.needs_token:
        problems += [UNAUTHENTICATED, FORBIDDEN, UNAVAILABLE]
    for problem in problems:
        responses[str(problem.status)] = _problem_response(problem, operation.path)
    return dict(sorted(responses.items()))


def _problem_response(kind: ProblemType, path: str) -> Json:
    example = ProblemResponse(kind).document(
        {"type": "http", "path": path, "guardwire.request_id": "desk-7.42"}
    )
    headers = _references(("X-Request-Id", *_PROBLEM_HEADERS.get(kind.status, ())))
    return {
        "description": f"{kind.title}. {kind.mend}",
        "headers": headers,
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": _REFERENCE.format(name=Problem.__name__)},
                "example": msgspec.to_builtins(example),
            }
        },
    }


def _references(names: Sequence[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _header(description: str, schema: Json) -> Json:
    return {"description": description, "schema": schema}


_DESCRIPTION: Final = (
    "Every document is a function of one account's committed rows at one revision; the account is the"
    " token's `sub`, and nothing in a request names another. `GET` is also answered as `HEAD`. Errors are"
    " problem details (RFC 9457), each with the request id under which the server logged it. `X-Request-Id`"
    " is taken from the request when it is 1 to 64 of letters, digits, `.`, `_` and `-`, else made, and it is"
    " echoed on every answer. What is no request of HTTP/1.1 with one `Host` is answered with 400, and a head"
    " of more than 65,536 bytes with 431; both end their connection. The WebSocket at `/ws` is described in"
    " asyncapi.json and PROTOCOL.md."
)
_FRESHNESS_HEADERS: Final = (
    "ETag", "Guardwire-Revision", "Guardwire-As-Of", "Guardwire-Age-Ms", "Guardwire-Stale", "X-Request-Id",
)  # fmt: skip
_PROBLEM_HEADERS: Final[Mapping[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",), 405: ("Allow",), 429: ("Retry-After",), 503: ("Retry-After",),
}  # fmt: skip
_HEADERS: Final[Json] = {
    "ETag": _header(
        "The epoch and revision of the state shown, and the seconds left while a countdown runs; weak where"
        " the document also shows the clock.",
        {"type": "string", "pattern": TAG_PATTERN},
    ),
    "Guardwire-Revision": _header("The account's revision.", {"type": "integer", "minimum": 0}),
    "Guardwire-As-Of": _header(
        "The database's time when it last showed this to be the newest state.",
        {"type": "string", "format": "date-time"},
    ),
    "Guardwire-Age-Ms": _header(
        "Milliseconds since then; absent when that is not known.", {"type": "integer", "minimum": 0}
    ),
    "Guardwire-Stale": _header(
        "`true` when the server cannot see the database, or the data is older than 5 s.",
        {"type": "string", "enum": ["true", "false"]},
    ),
    "X-Request-Id": _header("The request's id.", {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}),
    "WWW-Authenticate": _header("How to authenticate (RFC 6750).", {"type": "string"}),
    "Allow": _header("The methods that are answered.", {"type": "string"}),
    "Retry-After": _header("Seconds to wait.", {"type": "integer", "minimum": 1}),
}
_IF_NONE_MATCH: Final[Json] = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "Entity tags that the caller holds, or `*`; 304 when one of them is still the newest.",
    "schema": {"type": "string"},
}

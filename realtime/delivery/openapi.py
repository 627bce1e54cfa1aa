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

from realtime.delivery import etags
from realtime.delivery.answer import send_json, send_not_modified_if_held
from realtime.delivery.problems import (
    FORBIDDEN,
    INTERNAL,
    MEDIA_TYPE,
    METHOD_NOT_ALLOWED,
    UNAUTHENTICATED,
    UNAVAILABLE,
    Problem,
    ProblemResponse,
    ProblemType,
)

#: Of the interface, not of the program: it grows with what clients may rely on.
API_VERSION: Final = "1.0.0"
_REFERENCE: Final = "#/components/schemas/{name}"

Json = dict[str, Any]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One route, as its callers need to know it.

    ``answers`` is the type of the document of a 200, ``example`` one such document. ``about_an_account``
    marks what needs a token and carries the freshness headers and an entity tag; ``problems`` are those that
    it may end in beside the usual.
    """

    path: str
    operation_id: str
    summary: str
    tag: str
    answers: Any
    example: Any
    description: str = ""
    about_an_account: bool = False
    parameters: tuple[Json, ...] = ()
    problems: tuple[ProblemType, ...] = ()


class OpenApi:
    """GET /api/v1/openapi.json."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.document = describe(operations)
        self._body = msgspec.json.encode(self.document)
        self._tag = f'"{hashlib.sha256(self._body).hexdigest()[:16]}"'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"etag", self._tag.encode()), (b"cache-control", b"public, no-cache")]
        if not await send_not_modified_if_held(scope, send, self._tag, headers):
            await send_json(scope, send, self._body, headers)


def describe(operations: Sequence[Operation]) -> Json:
    """The OpenAPI document of ``operations``."""
    schemas, components = msgspec.json.schema_components(
        [Problem, *(operation.answers for operation in operations)], ref_template=_REFERENCE
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Guardwire",
            "version": API_VERSION,
            "summary": "Live account state: the snapshot fallback over plain HTTP",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            operation.path: {"get": _operation(operation, schema)}
            for operation, schema in zip(operations, schemas[1:], strict=True)
        },
        "components": {
            "schemas": components,
            "headers": _HEADERS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(operation: Operation, schema: Json) -> Json:
    answer: Json = {
        "description": "The document.",
        "content": {
            "application/json": {"schema": schema, "example": msgspec.to_builtins(operation.example)}
        },
    }
    problems = [METHOD_NOT_ALLOWED, INTERNAL, *operation.problems]
    responses: Json = {"200": answer}
    if operation.about_an_account:
        answer["headers"] = _references(_FRESHNESS_HEADERS)
        responses["304"] = {
            "description": "What `If-None-Match` names is still the newest state.",
            "headers": _references(_FRESHNESS_HEADERS),
        }
        problems += [UNAUTHENTICATED, FORBIDDEN, UNAVAILABLE]
    for problem in sorted(problems, key=lambda problem: problem.status):
        responses[str(problem.status)] = _problem_response(problem, operation.path)
    parameters = [*operation.parameters, *((_IF_NONE_MATCH,) if operation.about_an_account else ())]
    return {
        "operationId": operation.operation_id,
        "summary": operation.summary,
        "description": operation.description or operation.summary,
        "tags": [operation.tag],
        "security": [{"bearer": []}] if operation.about_an_account else [],
        "parameters": parameters,
        "responses": responses,
    }


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
    " echoed on every answer."
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
        {"type": "string", "pattern": etags.PATTERN},
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

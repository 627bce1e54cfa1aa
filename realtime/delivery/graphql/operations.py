"""From the text of a request to the plan of its operation. Documents and plans are kept, because most clients of a
node send the same few.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import msgspec
from graphql import (
    DocumentNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    get_operation_ast,
    get_variable_values,
    parse,
    recommended_rules,
    specified_rules,
    validate,
)
from starlette.exceptions import HTTPException

from realtime.delivery.graphql.bounds import MAX_REQUEST_BYTES, MAX_TOKENS, check_size, check_text
from realtime.delivery.graphql.plan import Plan, compile_plan
from realtime.delivery.graphql.schema import SCHEMA
from realtime.delivery.limits import RateLimit

#: New documents that a user may send: to parse and validate one costs 5 ms, and up to 90 where it is written for that.
DOCUMENTS_PER_SECOND: Final = 1.0
DOCUMENTS_AT_ONCE: Final = 20
#: How often a user may ask for the schema, which costs 40 ms each time.
SCHEMA_PER_SECOND: Final = 0.5
SCHEMA_AT_ONCE: Final = 10
_DOCUMENTS_KEPT: Final = 64
_PLANS_KEPT: Final = 256
_MAX_ERRORS: Final = 10
_RULES: Final = (*specified_rules, *recommended_rules)

Kept = TypeVar("Kept")


class Request(msgspec.Struct, frozen=True, rename="camel"):
    """An operation as a client sends it, over HTTP and in a WebSocket's ``subscribe``; other fields are ignored."""

    query: str
    operation_name: str | None = None
    variables: dict[str, Any] | None = None


class RequestErrors(Exception):
    """A request that cannot be executed; ``errors`` has one for each problem."""

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        self.errors = tuple(errors)
        super().__init__(self.errors[0].message)


class Operations:
    """Makes plans of requests, and keeps them."""

    def __init__(self) -> None:
        self._documents: _Latest[str, DocumentNode] = _Latest(_DOCUMENTS_KEPT)
        self._plans: _Latest[bytes, Plan] = _Latest(_PLANS_KEPT)
        self._documents_limit = RateLimit(per_second=DOCUMENTS_PER_SECOND, burst=DOCUMENTS_AT_ONCE)
        self._schema_limit = RateLimit(per_second=SCHEMA_PER_SECOND, burst=SCHEMA_AT_ONCE)

    def plan(self, body: bytes, user_id: UUID) -> Plan:
        """The plan of a request, as JSON; raises RequestErrors, and HTTPException(429) for too many new documents."""
        kept = self._plans.get(body)
        if kept is not None:
            return kept
        plan = self._made(_decode(body), user_id)
        if not plan.asks_for_schema:
            self._plans.keep(body, plan)
        return plan

    def _made(self, request: Request, user_id: UUID) -> Plan:
        document = self._documents.get(request.query)
        if document is None:
            _count(self._documents_limit, user_id)
            document = _read_document(request.query)
            self._documents.keep(request.query, document)
        operation = get_operation_ast(document, request.operation_name)
        if operation is None:
            raise RequestErrors([GraphQLError(_WHICH_OPERATION)])
        return self._planned(document, operation, request.variables or {}, user_id)

    def _planned(
        self,
        document: DocumentNode,
        operation: OperationDefinitionNode,
        variables: dict[str, Any],
        user_id: UUID,
    ) -> Plan:
        definitions = operation.variable_definitions or ()
        values = get_variable_values(SCHEMA, definitions, variables, max_errors=_MAX_ERRORS)
        if isinstance(values, list):
            raise RequestErrors(values)
        try:
            plan = compile_plan(document, operation, values)
        except GraphQLError as error:
            raise RequestErrors([error]) from None
        if plan.asks_for_schema:
            _count(self._schema_limit, user_id)
        return plan


def _count(limit: RateLimit, user_id: UUID) -> None:
    wait_seconds = limit.wait_seconds(user_id, time.monotonic())
    if wait_seconds:
        raise HTTPException(429, _TOO_MANY_DOCUMENTS, headers={"retry-after": str(wait_seconds)})


_TOO_MANY_DOCUMENTS: Final = (
    "Too many different documents: keep the text, and send what differs as variables."
)
_WHICH_OPERATION: Final = (
    "The document has several operations or none of this name: name one in `operationName`."
)
_NO_MUTATIONS: Final = "There are no mutations here: alerts are acknowledged over REST and `/ws`."
_NO_BATCH: Final = "One request has one operation: batches are not taken."


def _decode(body: bytes) -> Request:
    if len(body) > MAX_REQUEST_BYTES:
        raise RequestErrors([GraphQLError(f"A request may have {MAX_REQUEST_BYTES} bytes.")])
    try:
        return msgspec.json.decode(body, type=Request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        is_batch = body.lstrip().startswith(b"[")
        message = _NO_BATCH if is_batch else f"The request is no JSON object with a `query`: {error}."
        raise RequestErrors([GraphQLError(message)]) from None


def _read_document(text: str) -> DocumentNode:
    """The document of ``text``, valid and within all bounds; raises RequestErrors."""
    try:
        document = parse(text, max_lexical_tokens=MAX_TOKENS, max_comments=MAX_TOKENS)
        check_text(document)
    except GraphQLError as error:
        raise RequestErrors([error]) from None
    errors = validate(SCHEMA, document, _RULES, max_errors=_MAX_ERRORS)
    operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    if any(each.operation is OperationType.MUTATION for each in operations):
        errors = [GraphQLError(_NO_MUTATIONS)]
    if errors:
        raise RequestErrors(errors)
    try:
        for operation in operations:
            check_size(document, operation)
    except GraphQLError as error:
        raise RequestErrors([error]) from None
    return document


Key = TypeVar("Key")


class _Latest(Generic[Key, Kept]):
    """Keeps the values that were asked for last, so many at most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Key, Kept] = OrderedDict()

    def get(self, key: Key) -> Kept | None:
        """The value that is kept for ``key``; None where there is none."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def keep(self, key: Key, value: Kept) -> None:
        """Keep ``value``, and drop the one that was not asked for longest where there are too many."""
        self._kept[key] = value
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

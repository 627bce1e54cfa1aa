"""Results and errors as GraphQL writes them. The code of an error is the name of its problem (`http/problems.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from graphql import GraphQLError
from starlette.types import Scope

from guardwire.errors import CloseCode
from guardwire.messages import encode
from realtime.delivery.graphql.operations import RequestErrors
from realtime.delivery.graphql.plan import Plan
from realtime.delivery.graphql.schema import Shown
from realtime.delivery.http.problems import (
    BAD_REQUEST,
    FORBIDDEN,
    UNAUTHENTICATED,
    ProblemResponse,
    ProblemType,
    answer_to,
)
from realtime.delivery.stream import Close
from realtime.owners import count_blocked, is_same

#: An error, or an answer, as it is encoded.
Document = dict[str, Any]


def result(plan: Plan, shown: Shown, user_id: UUID) -> Document:
    """The values that ``plan`` selects of the account of ``user_id``; raises WrongOwner for another one's snapshot."""
    # The last check of owners, on the way of all transports.
    if not is_same(shown.snapshot.user_id, user_id):
        raise count_blocked("graphql answer", user_id)
    return {"data": plan.read(shown)}


def errors_of(error: Exception, scope: Scope) -> tuple[list[Document], ProblemResponse]:
    """The errors of a request that ``error`` ended, and the problem that it is; an unforeseen one is logged."""
    if isinstance(error, RequestErrors):
        return request_errors(error.errors), ProblemResponse(BAD_REQUEST)
    problem = answer_to(error, scope)
    return [error_of(problem.kind, problem.detail)], problem


def request_errors(errors: Sequence[GraphQLError]) -> list[Document]:
    """The errors of a request that cannot be executed, with their places in its text."""
    return [dict(each.formatted) | {"extensions": {"code": BAD_REQUEST.name}} for each in errors]


def error_of(kind: ProblemType, message: str) -> Document:
    """One error; its type leads to an explanation, as a problem of REST does."""
    return {"message": message, "extensions": {"code": kind.name, "status": kind.status, "type": kind.uri}}


def error_of_close(last: Close) -> Document:
    """The error with which a subscription ends whose token does not hold any more."""
    return error_of(FORBIDDEN if last.code == CloseCode.FORBIDDEN else UNAUTHENTICATED, last.reason)


def answer(document: Document | Sequence[Document]) -> bytes:
    """``document`` as JSON."""
    return encode(document)

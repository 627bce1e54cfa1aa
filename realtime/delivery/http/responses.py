"""Answers to reads: a document with its entity tag, and headers that say how old the data is.

    ETag                    the position in the database's history (below)
    Guardwire-Revision      the account's revision
    Guardwire-As-Of         the database's time when it last showed this to be the newest state
    Guardwire-Age-Ms        milliseconds since then, by a monotonic clock; absent when that is not known
    Guardwire-Stale         `true` when the server is blind or the data is older than 5 s

HTTP's own ``Age`` counts whole seconds and is for caches to set, so it is not used.

An entity tag (RFC 9110, 8.8.3) is the position in the database's history that an answer shows. ``"epoch:revision"`` is
strong where the document is a function of committed rows alone. Where the document also shows the clock (the time of
the read, a countdown), the tag is weak, and a running countdown is part of it: ``W/"epoch:revision:42"``. A poller
that got 304 for a countdown of a minute ago would believe that it had a minute left.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from starlette.types import Scope, Send

from realtime.delivery.security_headers import RawHeaders
from realtime.delivery.watched_account import UNKNOWN_AGE_MS
from realtime.snapshot import Freshness

#: Data that was last confirmed longer ago than this is never called fresh.
FRESH_MS: Final = 5_000

_JSON: Final = (b"content-type", b"application/json")
#: A browser may keep an answer but asks each time whether it still holds, and never shows one user another's.
_PRIVATE: Final[RawHeaders] = [(b"cache-control", b"private, no-cache"), (b"vary", b"Authorization")]


class Answer(NamedTuple):
    """A document as it goes out, its entity tag and the account's revision that it shows."""

    tag: str
    revision: int
    body: bytes


class CompleteResponse(NamedTuple):
    """A complete answer: status, headers and body."""

    status: int
    headers: RawHeaders
    body: bytes


def conditional_response(scope: Scope, answer: Answer, fresh: Freshness, *, stale: bool) -> CompleteResponse:
    """``answer``, or 304 when the request names its tag; both carry the headers of freshness.

    ``stale``: the server itself has cause to doubt the data, at any age.
    """
    headers = freshness_headers(answer.tag, answer.revision, fresh, stale=stale)
    return not_modified(headers) if is_held(scope, answer.tag) else json_of(scope, answer.body, headers)


async def respond(scope: Scope, send: Send, answer: Answer, fresh: Freshness, *, stale: bool) -> None:
    """Send `whole`."""
    await send_complete(send, conditional_response(scope, answer, fresh, stale=stale))


async def send_complete(send: Send, answer: CompleteResponse) -> None:
    """Send ``answer``."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})


def freshness_headers(tag: str, revision: int, fresh: Freshness, *, stale: bool) -> RawHeaders:
    """The headers of every answer about an account, 304 included."""
    headers = [
        *_PRIVATE,
        (b"etag", tag.encode()),
        (b"guardwire-revision", b"%d" % revision),
        (b"guardwire-as-of", fresh.as_of.encode()),
        (b"guardwire-stale", b"true" if stale or fresh.age_ms > FRESH_MS else b"false"),
    ]
    if fresh.age_ms < UNKNOWN_AGE_MS:
        headers.append((b"guardwire-age-ms", b"%d" % fresh.age_ms))
    return headers


def is_held(scope: Scope, tag: str) -> bool:
    """Whether the request's ``If-None-Match`` names ``tag``, so that 304 is the answer."""
    lines = [value for name, value in scope["headers"] if name == b"if-none-match"]
    return bool(lines) and is_tag_named(b", ".join(lines).decode("latin-1"), tag)


def not_modified(headers: RawHeaders) -> CompleteResponse:
    """304: what the caller holds is still the newest."""
    return CompleteResponse(304, headers, b"")


def json_of(scope: Scope, body: bytes, headers: RawHeaders) -> CompleteResponse:
    """200 with ``body``; the answer to a HEAD request has the length of the body and no body."""
    headers = [_JSON, (b"content-length", b"%d" % len(body)), *headers]
    return CompleteResponse(200, headers, b"" if scope["method"] == "HEAD" else body)


async def send_json(scope: Scope, send: Send, body: bytes, headers: RawHeaders) -> None:
    """Send `json_of`."""
    await send_complete(send, json_of(scope, body, headers))


#: The form of the tags that are made here, as a regular expression that JavaScript reads too.
TAG_PATTERN: Final = '^(W/)?"[0-9]+:[0-9]+(:[0-9]+)?"$'

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def strong_tag(epoch: int, revision: int) -> str:
    """The tag of a document that equal revisions make equal."""
    return f'"{epoch}:{revision}"'


def weak_tag(epoch: int, revision: int, countdown_seconds: int | None = None) -> str:
    """The tag of a document that also shows the clock; None when no countdown runs."""
    clock = "" if countdown_seconds is None else f":{countdown_seconds}"
    return f'W/"{epoch}:{revision}{clock}"'


def is_tag_named(if_none_match: str, tag: str) -> bool:
    """Whether the header's list names ``tag`` by weak comparison (RFC 9110, 13.1.2), or is ``*``; nonsense
    names nothing.
    """
    if if_none_match.strip() == "*":
        return True
    opaque = tag.removeprefix("W/")
    # The whole header is usually the tag itself, as it was sent.
    return if_none_match == tag or opaque in _TAG.findall(if_none_match)

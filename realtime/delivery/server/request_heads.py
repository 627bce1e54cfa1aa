"""Checks the head of a request before any route sees the request.

The parser (httptools) reads the syntax of a head. This module refuses a head that is well-formed and still
has two readings, because a proxy in front could take the other one: two names of the server, a body of
unclear length, a WebSocket handshake with a body.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from realtime.delivery.http.problems import BAD_REQUEST, HEAD_TOO_LARGE, ProblemResponse, ProblemType

RawHeaders = Sequence[tuple[bytes, bytes]]

#: Most bytes of a request line with all headers; the same for a WebSocket handshake.
HEAD_BYTES: Final = 65_536

_VERSIONS: Final = frozenset({"1.0", "1.1"})
#: A name, an IPv4 address or an IPv6 address in brackets, and perhaps a port (RFC 3986, 3.2.2 and 3.2.3).
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Za-z:.%_~-]+\])(?::[0-9]{0,5})?")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)

NO_HTTP: Final = (
    "This is no request of HTTP/1.1: check its syntax, and what stands between client and server."
)
TOO_LARGE: Final = (
    f"Request line and headers may have {HEAD_BYTES:,} bytes in all: send fewer or shorter headers (a browser"
    " sends all cookies of the host along)."
)
_VERSION: Final = "Speak HTTP/1.1 or HTTP/1.0."
_NO_HOST: Final = "A request of HTTP/1.1 has exactly one `Host` header, which names the server."
_BAD_HOST: Final = "The `Host` header must be a host name or address, and perhaps a port."
_OTHER_HOST: Final = "The request's target and its `Host` header name different servers."
_BAD_TARGET: Final = "The request's target must be a path, or an http address without user and fragment."
_BAD_CODING: Final = "The only `Transfer-Encoding` that is understood is `chunked`, in HTTP/1.1."
_UPGRADE_BODY: Final = "A request with `Upgrade` may have no body: leave out the one or the other."


class RefusedHead(Exception):
    """Raised for a head that is refused before any route; ``problem`` is the answer."""

    def __init__(self, detail: str, kind: ProblemType = BAD_REQUEST) -> None:
        super().__init__(detail)
        self.problem = ProblemResponse(kind, detail=detail)


class Target(NamedTuple):
    """The target of a request: the path as it was sent, and the query without its question mark."""

    raw_path: bytes
    query: bytes


def not_http() -> ProblemResponse:
    """The answer to bytes that the parser does not understand."""
    return RefusedHead(NO_HTTP).problem


def too_large() -> ProblemResponse:
    """The answer to a head of more than `HEAD_BYTES`."""
    return RefusedHead(TOO_LARGE, HEAD_TOO_LARGE).problem


def target_of(url: bytes, version: str, headers: RawHeaders) -> Target:
    """The target of a request for ``url`` (the second word of its first line) in an HTTP ``version`` such as
    ``1.1``.

    Names of headers are in lower case. Raises RefusedHead.
    """
    if version not in _VERSIONS:
        raise RefusedHead(_VERSION)
    host = _host_of(version, headers)
    if b"#" in url:
        raise RefusedHead(_BAD_TARGET)
    if url[:1] != b"/":
        absolute = _ABSOLUTE.fullmatch(url)
        if absolute is None or _HOST.fullmatch(absolute[1]) is None:
            raise RefusedHead(_BAD_TARGET)
        if host is not None and absolute[1].lower() != host.lower():
            raise RefusedHead(_OTHER_HOST)
        url = absolute[2]
    raw_path, _, query = url.partition(b"?")
    return Target(raw_path or b"/", query)


def _host_of(version: str, headers: RawHeaders) -> bytes | None:
    """The value of ``Host``, which HTTP/1.0 may leave out; the same pass checks the coding of the body."""
    host = None
    for name, value in headers:
        if name == b"host":
            if host is not None:
                raise RefusedHead(_NO_HOST)
            host = value.strip(b" \t")
        elif name == b"transfer-encoding" and (value.strip().lower() != b"chunked" or version != "1.1"):
            raise RefusedHead(_BAD_CODING)
    if host is None and version == "1.1":
        raise RefusedHead(_NO_HOST)
    if host is not None and _HOST.fullmatch(host) is None:
        raise RefusedHead(_BAD_HOST)
    return host


def wants_websocket(headers: RawHeaders) -> bool:
    """Whether ``Upgrade`` names WebSocket and ``Connection`` says that the upgrade is for this server."""
    return b"websocket" in _tokens(headers, b"upgrade") and b"upgrade" in _tokens(headers, b"connection")


def refuse_body(headers: RawHeaders) -> None:
    """Raise RefusedHead for a request with ``Upgrade`` that announces a body.

    httptools takes it to have none, for any protocol: where the body begins, frames or the next request
    would.
    """
    for name, value in headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0"):
            raise RefusedHead(_UPGRADE_BODY)


def _tokens(headers: RawHeaders, wanted: bytes) -> set[bytes]:
    return {token.strip().lower() for name, value in headers if name == wanted for token in value.split(b",")}

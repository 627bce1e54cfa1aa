"""The security headers of every answer: the content security policy, and what forbids other sites to use an answer.

Both sides need them: the middleware of all routes, and the parser's own answers, which never reach a route.
"""

from __future__ import annotations

import re
from typing import Final

RawHeaders = list[tuple[bytes, bytes]]

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
# A host as a content security policy can name it; that leaves out IPv6, for which 'self' has to do.
_HOST = re.compile(rb"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?")


def security_headers(host: bytes) -> RawHeaders:
    """The security headers of an answer to a request for ``host``."""
    return [(b"content-security-policy", _policy_for(host)), *_FIXED]


def _policy_for(host: bytes) -> bytes:
    # In older browsers (Safari before 15.4) 'self' does not cover a WebSocket to the page's own host, so it
    # is named.
    sockets = f" ws://{host.decode()} wss://{host.decode()}" if _HOST.fullmatch(host) else ""
    return _CONTENT_SECURITY_POLICY.format(sockets=sockets).encode()

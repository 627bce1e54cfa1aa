"""How a link ended, and what that means for the next one (PROTOCOL.md, "Close codes")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from guardwire.errors import CloseCode
from guardwire.messages import Error, ServerFrame

#: ``retry``: the same thing may work later. ``token``: worth one more try, with a new token. ``blocked``:
#: this transport does not get through, another one might. ``refused``: for good.
Verdict = Literal["retry", "token", "blocked", "refused"]

LOST: Final = 1006
#: The server's own, and the library's: protocol error, bad UTF-8, message too big.
_TERMINAL: Final = frozenset(code.value for code in CloseCode if code.terminal) | {1002, 1007, 1009}
#: Guardwire sends these itself: whatever is wrong, the transport is not.
_OURS: Final = frozenset(code.value for code in CloseCode if code is not CloseCode.NORMAL)
#: Nothing that waiting could mend: the request itself is wrong, or not allowed.
_REFUSED_STATUSES: Final = frozenset({400, 403, 422})
#: As much of a problem's sentence as is of use to people.
_DETAIL_CHARACTERS: Final = 300
_TROUBLE_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class Ending(msgspec.Struct, frozen=True):
    """Why a link ended; ``code`` is a WebSocket close code or an HTTP status, 1006 when it was just lost."""

    verdict: Verdict
    code: int
    reason: str
    retry_after_seconds: float = 0.0
    #: Whether it says nothing against the transport, even when no frame came through: somebody answered, or
    #: nobody at all.
    clears_transport: bool = False


class LinkEnded(Exception):
    """Raised by a link that has ended, on every call from then on."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending
        super().__init__(f"{ending.code} {ending.reason}")


def lost(reason: str) -> LinkEnded:
    """A connection that broke."""
    return LinkEnded(Ending("retry", LOST, reason))


def unreachable(reason: str) -> LinkEnded:
    """A connection that never came about: whatever would have run over it."""
    return LinkEnded(Ending("retry", LOST, f"unreachable: {reason}", clears_transport=True))


def tokenless() -> LinkEnded:
    """A connection that was not tried, because no token could be had."""
    return LinkEnded(Ending("retry", LOST, "the token callback failed", clears_transport=True))


def replaced() -> LinkEnded:
    """A link that this side ended, to open another one."""
    return LinkEnded(Ending("retry", 1000, "replaced", clears_transport=True))


def blocked(reason: str, code: int = LOST) -> LinkEnded:
    """A transport that something in between does not let through."""
    return LinkEnded(Ending("blocked", code, reason))


def closed(code: int, reason: str) -> LinkEnded:
    """A WebSocket closed with ``code``; the reason may hold ``{"retry_after_ms": …}``."""
    verdict: Verdict = "retry"
    if code in _TERMINAL:
        verdict = "refused"
    elif code == CloseCode.TOKEN_EXPIRED:
        verdict = "token"
    hint = re.search(r"retry_after_ms\W{1,4}(\d{1,9})", reason)
    return LinkEnded(Ending(verdict, code, reason, int(hint[1]) / 1000 if hint else 0.0, code in _OURS))


#: How an event stream, which has no close codes, says the same in its last frame.
_LAST_WORDS: Final = {
    "draining": CloseCode.DRAINING,
    "revoked": CloseCode.FORBIDDEN,
    "token_expired": CloseCode.TOKEN_EXPIRED,
    "unauthenticated": CloseCode.UNAUTHENTICATED,
}


def ended_after(last: ServerFrame | None) -> LinkEnded:
    """An event stream that ended; an error frame just before is the reason."""
    if not isinstance(last, Error):
        return lost("the event stream ended")
    code = _LAST_WORDS.get(last.code)
    verdict: Verdict = "retry" if last.retry else "refused"
    ending = Ending(verdict, LOST, last.message, clears_transport=True)
    if code is not None:
        ending = closed(code, last.message).ending
    after_seconds = (last.retry_after_ms or 0) / 1000
    return LinkEnded(msgspec.structs.replace(ending, retry_after_seconds=after_seconds))


def answered(status: int, headers: Mapping[str, str], body: bytes, *, transport_refused: bool) -> LinkEnded:
    """An HTTP ``status`` where a stream was asked for; ``headers`` have names in lower case.

    ``transport_refused``: whether a status that names no trouble of the server speaks against the transport
    (a WebSocket handshake that a proxy swallowed) or against the request.
    """
    verdict: Verdict = "retry"
    if status == 401:
        verdict = "token"
    elif status == 403 or (status in _REFUSED_STATUSES and not transport_refused):
        verdict = "refused"
    elif status not in _TROUBLE_STATUSES:
        verdict = "blocked"
    after = headers.get("retry-after", "")
    seconds = float(after) if re.fullmatch(r"\d{1,9}", after) else 0.0
    detail = ": redirects are not followed" if 300 <= status < 400 else _detail(body)
    return LinkEnded(Ending(verdict, status, f"HTTP {status}{detail}", seconds, verdict != "blocked"))


class _Problem(msgspec.Struct):
    """As much of a problem document (RFC 9457) as is of use here."""

    detail: str = ""


def _detail(body: bytes) -> str:
    try:
        detail = msgspec.json.decode(body, type=_Problem).detail
    except msgspec.DecodeError:
        return ""
    return f": {detail[:_DETAIL_CHARACTERS]}" if detail else ""

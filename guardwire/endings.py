"""How a link ended, and what that means for the next one (PROTOCOL.md, "Close codes")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from guardwire.errors import CloseCode
from guardwire.messages import Error, ServerFrame

#: ``retry``: the same attempt may succeed later. ``token``: an attempt with a new token may succeed. ``blocked``: this
#: transport does not get through, and another one might. ``refused``: no further attempt can succeed.
Verdict = Literal["retry", "token", "blocked", "refused"]

#: The close code of a connection that broke without a close frame (RFC 6455, 7.1.5).
LOST: Final = 1006
#: Guardwire's own codes, and the codes of `websockets` for a protocol error, bad UTF-8 and a message too big.
_TERMINAL: Final = frozenset(code.value for code in CloseCode if code.terminal) | {1002, 1007, 1009}
_TOKEN: Final = frozenset({CloseCode.TOKEN_EXPIRED, CloseCode.UNAUTHENTICATED})
#: Only Guardwire sends these codes, so the transport got through.
_GUARDWIRES: Final = frozenset(code.value for code in CloseCode if code is not CloseCode.NORMAL)
#: The request itself is wrong or not allowed, so the same request can never succeed.
_REFUSED_STATUSES: Final = frozenset({400, 403, 422})
_TROUBLE_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_DETAIL_CHARACTERS: Final = 300


class Ending(msgspec.Struct, frozen=True):
    """Why a link ended; ``code`` is a WebSocket close code or an HTTP status, 1006 where there was neither."""

    verdict: Verdict
    code: int
    reason: str
    retry_after_seconds: float = 0.0
    #: Whether the transport is not to blame although no frame came through: Guardwire answered, or no machine did.
    clears_transport: bool = False


class LinkEnded(Exception):
    """Raised by a link that has ended, on this call and on every later one."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending
        super().__init__(f"{ending.code} {ending.reason}")


def lost(reason: str) -> LinkEnded:
    """A connection that broke."""
    return LinkEnded(Ending("retry", LOST, reason))


def unreachable(reason: str) -> LinkEnded:
    """A connection that never came about; every transport would have failed in the same way."""
    return LinkEnded(Ending("retry", LOST, f"unreachable: {reason}", clears_transport=True))


def without_token(error: str) -> LinkEnded:
    """An attempt that was not made, because the token callback raised ``error``.

    That is the exception's type alone: its message may hold a token, and reasons are logged.
    """
    return LinkEnded(Ending("retry", LOST, f"the token callback failed: {error}", clears_transport=True))


def replaced() -> LinkEnded:
    """A link that the client itself ended, to open another one."""
    return LinkEnded(Ending("retry", 1000, "replaced", clears_transport=True))


def blocked(reason: str, code: int = LOST) -> LinkEnded:
    """A transport that a proxy or firewall does not let through."""
    return LinkEnded(Ending("blocked", code, reason))


def from_close(code: int, text: str) -> LinkEnded:
    """A WebSocket that was closed with ``code``.

    ``text`` is the close frame's reason: a sentence, or ``{"reason": …, "retry_after_ms": …}``.
    """
    verdict: Verdict = "refused" if code in _TERMINAL else "retry"
    if code in _TOKEN:
        verdict = "token"
    hint = re.search(r"retry_after_ms\W{1,4}(\d{1,9})", text)
    sentence = re.search(r'"reason": ?"([^"]*)"', text)
    return LinkEnded(
        Ending(
            verdict,
            code,
            sentence[1] if sentence else text,
            int(hint[1]) / 1000 if hint else 0.0,
            clears_transport=code in _GUARDWIRES,
        )
    )


#: An event stream has no close codes; the ``code`` of its last error frame says the same.
_CODE_OF_ERROR: Final = {
    "draining": CloseCode.DRAINING,
    "revoked": CloseCode.FORBIDDEN,
    "token_expired": CloseCode.TOKEN_EXPIRED,
    "unauthenticated": CloseCode.UNAUTHENTICATED,
}


def from_last_frame(frame: ServerFrame | None) -> LinkEnded:
    """An event stream that ended after ``frame``; an error frame is the reason of the end."""
    if not isinstance(frame, Error):
        return lost("the event stream ended")
    code = _CODE_OF_ERROR.get(frame.code)
    verdict: Verdict = "retry" if frame.retry else "refused"
    ending = Ending(verdict, LOST, frame.message, clears_transport=True)
    if code is not None:
        ending = from_close(code, frame.message).ending
    after_seconds = (frame.retry_after_ms or 0) / 1000
    return LinkEnded(msgspec.structs.replace(ending, retry_after_seconds=after_seconds))


def from_response(
    status: int, headers: Mapping[str, str], body: bytes, *, transport_refused: bool
) -> LinkEnded:
    """An HTTP ``status`` in place of a stream; ``headers`` have names in lower case.

    ``transport_refused`` is True where an unexpected status speaks against the transport (a proxy swallowed the
    WebSocket handshake), and False where it speaks against the request.
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
    """The part of a problem document (RFC 9457) that the client reads."""

    detail: str = ""


def _detail(body: bytes) -> str:
    try:
        detail = msgspec.json.decode(body, type=_Problem).detail
    except msgspec.DecodeError:
        return ""
    return f": {detail[:_DETAIL_CHARACTERS]}" if detail else ""

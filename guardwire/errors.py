"""Errors that a bot can catch, and the close codes that the server ends a stream with.

    GuardwireError
    └── ClientError             raised by the client
        ├── ConnectionRefused   the server said no, and would say no again
        ├── RequestRefused      the server refused an acknowledgement or a snooze
        └── StaleState          the state is older than the caller allows

Every error has a ``code`` (stable, for programs), a sentence (for people) and ``retry``: whether the same call
may succeed later.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class GuardwireError(Exception):
    """Base of every error of this project, of the client's and of the server's."""

    code: ClassVar[str] = "error"
    retry: ClassVar[bool] = False


class ClientError(GuardwireError):
    """Base of the errors that the client raises."""

    code = "client"


class ConnectionRefused(ClientError):
    """The server refused for good: ``status`` is the HTTP status or the close code that it sent."""

    code = "refused"

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class RequestRefused(ClientError):
    """The server refused an acknowledgement or a snooze for good; ``reason`` is the code of its error frame."""

    code = "request_refused"

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}: {message}")


class StaleState(ClientError):
    """The state is too old, or not known to be right; ``age_seconds`` is None before the first snapshot."""

    code = "stale"
    retry = True

    def __init__(self, age_seconds: float | None, why: str = "") -> None:
        self.age_seconds = age_seconds
        said = "no state yet" if age_seconds is None else f"the state is {age_seconds:.1f} s old"
        super().__init__(f"{said}: {why}" if why else said)


class CloseCode(IntEnum):
    """WebSocket close codes that the server itself sends (PROTOCOL.md, "Close codes")."""

    NORMAL = 1000
    DRAINING = 1012
    OVERLOADED = 1013
    TOKEN_EXPIRED = 4001
    NO_HELLO = 4008
    NO_PONG = 4009
    TOO_SLOW = 4010
    RATE_LIMITED = 4029
    MALFORMED = 4400
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    TOO_MANY_CONNECTIONS = 4409

    @property
    def terminal(self) -> bool:
        """Whether a client that gets this code must not reconnect."""
        return self in _TERMINAL


_TERMINAL = frozenset({CloseCode.MALFORMED, CloseCode.FORBIDDEN})

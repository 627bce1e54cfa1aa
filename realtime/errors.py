"""Every error that the server and its commands raise on purpose; the client's are in `guardwire.errors`.

    GuardwireError
    ├── ConfigurationError      settings that cannot work; carries all problems at once
    ├── MigrationError          the database cannot be brought to this release's shape
    ├── EmbeddedServerError     a throw-away PostgreSQL or Redis could not be started
    │   ├── NoServerProgram     no PostgreSQL or Redis program is to be had on this machine
    │   ├── FolderUnusable      the data folder cannot be made, entered or written
    │   ├── FolderInUse         another process owns the data folder
    │   └── ServerNotReady      the server ended, or was not ready in time
    ├── NothingRevoked          there is no revocation to undo
    ├── PortTaken               somebody else listens on the port that was asked for
    ├── AuthenticationError     who is asking is not known (401) or not welcome (403)
    ├── UnavailableError        the answer exists but cannot be had now (503)
    ├── TooManyClaims           a user asks too often for what makes the server read (429)
    ├── StreamClosed            a stream that must end, with its close code
    └── ClientError             see `guardwire.errors`

Each has a ``code`` (stable, for programs), a sentence (for people) and ``retry``: whether the same thing may
work later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from guardwire.errors import CloseCode, GuardwireError


class ConfigurationError(GuardwireError):
    """Settings that cannot work; ``problems`` has one sentence for each, with its mend."""

    code = "configuration"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class MigrationError(GuardwireError):
    """The database could not be brought to the shape that this release reads."""

    code = "migration"


class EmbeddedServerError(GuardwireError):
    """A throw-away PostgreSQL or Redis could not be started; the sentence has the mend."""

    code = "embedded_server"


class NoServerProgram(EmbeddedServerError):
    """No PostgreSQL or Redis program that can be run is on this machine."""

    code = "no_server_program"


class FolderUnusable(EmbeddedServerError):
    """The data folder cannot be made, entered or written by the account that needs it."""

    code = "folder_unusable"


class FolderInUse(EmbeddedServerError):
    """Another process owns the data folder; ``owner_pid`` is None when it did not say."""

    code = "folder_in_use"
    retry = True

    def __init__(self, owner_pid: int | None, message: str) -> None:
        self.owner_pid = owner_pid
        super().__init__(message)


class ServerNotReady(EmbeddedServerError):
    """The server program ended, or was not ready in time; the sentence quotes its own last word."""

    code = "server_not_ready"


class NothingRevoked(GuardwireError):
    """There is no revocation in force of the user or token that was named."""

    code = "nothing_revoked"


class PortTaken(GuardwireError):
    """Somebody else listens on the port that was asked for."""

    code = "port_taken"

    def __init__(self, port: int, message: str) -> None:
        self.port = port
        super().__init__(message)


class AuthenticationError(GuardwireError):
    """The token is missing, wrong or no longer good; ``reason`` says which, and never quotes the token."""

    code = "unauthenticated"

    #: Reasons that are the server's trouble and not the token's; everything else is a 401.
    UNAVAILABLE: ClassVar[frozenset[str]] = frozenset({"unavailable"})
    #: Reasons where another token for the same user would not help.
    FORBIDDEN: ClassVar[frozenset[str]] = frozenset({"revoked", "origin", "scope"})

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)

    @property
    def status(self) -> int:
        """HTTP status: 401, 403 or 503."""
        if self.reason in self.UNAVAILABLE:
            return 503
        return 403 if self.reason in self.FORBIDDEN else 401


class TooManyClaims(GuardwireError):
    """A user resumes too often from revisions that this node has not seen, each a reason to read the account;
    ``retry_after_seconds`` is when the next one may come.
    """

    code = "rate_limited"
    retry = True

    def __init__(self, retry_after_seconds: int) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__("too many requests from revisions that this node has not seen yet")


class UnavailableError(GuardwireError):
    """Neither the database nor a snapshot can answer now."""

    code = "unavailable"
    retry = True


class StreamClosed(GuardwireError):
    """A stream that must end now, with the close code and a reason of at most 123 bytes."""

    code = "stream_closed"

    def __init__(self, close_code: CloseCode, reason: str) -> None:
        self.close_code = close_code
        self.reason = reason
        super().__init__(f"{close_code.value} {reason}")

"""Every error that the server and its commands raise on purpose; the client's are in `guardwire.errors`.

    GuardwireError
    ├── ConfigurationError      the settings are wrong; it carries all problems at once
    ├── MigrationError          the database cannot be migrated to this release
    ├── EmbeddedServerError     a throw-away PostgreSQL or Redis could not be started
    │   ├── NoServerProgram     this machine has no PostgreSQL or Redis program
    │   ├── FolderUnusable      the data folder cannot be made, entered or written
    │   ├── FolderInUse         another process owns the data folder
    │   └── ServerNotReady      the server ended, or was not ready in time
    ├── NothingRevoked          there is no revocation to undo
    ├── NothingFound            the account has no alert, endpoint or message of this id
    ├── PortTaken               another program listens on the port
    ├── AuthenticationError     the caller is unknown (401), not allowed (403), or cannot be checked now (503)
    ├── UnavailableError        the answer exists, but the server cannot get it now (503)
    ├── TooManyClaims           a user resumes too often from revisions that the server has to look up (429)
    ├── StreamClosed            the stream must end, with this close code
    └── ClientError             see `guardwire.errors`

Each has a ``code`` (stable, for programs), a sentence (for people) and ``retry``: whether the same thing may
work later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from guardwire.errors import CloseCode, GuardwireError


class ConfigurationError(GuardwireError):
    """The settings are wrong; ``problems`` has one sentence for each problem, with its remedy."""

    code = "configuration"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class MigrationError(GuardwireError):
    """The database could not be migrated to this release."""

    code = "migration"


class EmbeddedServerError(GuardwireError):
    """A throw-away PostgreSQL or Redis could not be started; the sentence has the remedy."""

    code = "embedded_server"


class NoServerProgram(EmbeddedServerError):
    """This machine has no PostgreSQL or Redis program that can be run."""

    code = "no_server_program"


class FolderUnusable(EmbeddedServerError):
    """The servers' account cannot make, enter or write the data folder."""

    code = "folder_unusable"


class FolderInUse(EmbeddedServerError):
    """Another process owns the data folder; ``owner_pid`` is None when it is unknown."""

    code = "folder_in_use"
    retry = True

    def __init__(self, owner_pid: int | None, message: str) -> None:
        self.owner_pid = owner_pid
        super().__init__(message)


class ServerNotReady(EmbeddedServerError):
    """The server program ended, or was not ready in time; the sentence quotes the last line of its log."""

    code = "server_not_ready"


class NothingRevoked(GuardwireError):
    """There is no revocation in force of the given user or token."""

    code = "nothing_revoked"


class NothingFound(GuardwireError):
    """The account has no alert, endpoint or message of the given id."""

    code = "nothing_found"


class PortTaken(GuardwireError):
    """Another program listens on the port."""

    code = "port_taken"

    def __init__(self, port: int, message: str) -> None:
        self.port = port
        super().__init__(message)


class AuthenticationError(GuardwireError):
    """The token is missing, wrong or no longer valid; ``reason`` names the case and never quotes the token."""

    code = "unauthenticated"

    #: Reasons that lie with the server and not with the token.
    UNAVAILABLE: ClassVar[frozenset[str]] = frozenset({"unavailable"})
    #: Reasons for which another token of the same user would not help. All other reasons are a 401.
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
    """A user resumes too often from revisions that this node has not seen, each of which costs a read.

    The next one may come after ``retry_after_seconds``.
    """

    code = "rate_limited"
    retry = True

    def __init__(self, retry_after_seconds: int) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__("too many requests from revisions that this node has not seen yet")


class UnavailableError(GuardwireError):
    """Neither the database nor a stored snapshot can answer now."""

    code = "unavailable"
    retry = True


class StreamClosed(GuardwireError):
    """A stream that must end now, with the close code and a reason of at most 123 bytes."""

    code = "stream_closed"

    def __init__(self, close_code: CloseCode, reason: str) -> None:
        self.close_code = close_code
        self.reason = reason
        super().__init__(f"{close_code.value} {reason}")


#: How long clients wait before they come back after a close code: least and most milliseconds, from which each client
#: gets a time of its own. A code that is not here needs no wait, or is terminal.
RETRY_AFTER_MS: Final[Mapping[CloseCode, tuple[int, int]]] = {
    CloseCode.DRAINING: (100, 2_000),
    CloseCode.OVERLOADED: (1_000, 5_000),
    CloseCode.RATE_LIMITED: (1_000, 3_000),
    CloseCode.TOO_MANY_CONNECTIONS: (1_000, 15_000),
}

"""The reasons why parts of a node wait for the database, for the log and for `/readyz`.

Each reason is one warning, and then one line a minute while it lasts. Parts that wait for the same reason share its
lines, so a database that is away for an hour makes sixty lines and not ten thousand.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from sqlalchemy.exc import TimeoutError as NoConnectionFree

log = logging.getLogger(__name__)

REMIND_SECONDS: Final = 60.0
_MOST_CHARACTERS: Final = 300
#: SQLSTATEs of missing rights, tables, columns, functions, schemas and roles. Their messages quote names alone, and no
#: values of rows.
_NAMES_ONLY: Final = frozenset({"42501", "42P01", "42703", "42883", "3F000", "42704"})
_REASONS: Final = {
    "28P01": "PostgreSQL refuses the password of this login",
    "28000": "PostgreSQL refuses this login (pg_hba.conf, or a role that may not log in)",
    "3D000": "there is no database of this name",
    "08P01": "this address refuses settings of a session, as a pooler does; set LISTEN_DATABASE_URL to PostgreSQL's",
    "53300": "PostgreSQL has no connection left for this login",
    "57P01": "PostgreSQL ended the connection",
    "57P02": "PostgreSQL ended the connection",
    "57P03": "PostgreSQL is starting or shutting down",
    "57014": "a statement took too long and was cancelled",
    "55P03": "a lock on a table of schema guardwire is not free",
    "25006": "the database is read-only",
    "53100": "PostgreSQL's disk is full",
}


class Trouble:
    """The present reasons, and the parts that wait because of each."""

    def __init__(self, *, remind_seconds: float = REMIND_SECONDS) -> None:
        self._remind_seconds = remind_seconds
        self._waiting: dict[str, dict[str, None]] = {}
        self._reported_at: dict[str, float] = {}
        #: Whether the self-test has not passed yet. It reports missing tables and rights, so other parts do not.
        self.is_starting = False

    @property
    def reason(self) -> str | None:
        """The reason that has held for longest; None when no part waits."""
        return next(iter(self._waiting), None)

    def report(self, part: str, error: BaseException) -> str:
        """Note that ``part``, such as "the listener", waits because of ``error``; returns the reason in words."""
        reason, now = reason_of(error), time.monotonic()
        if self.is_starting and _state_of(error) in _NAMES_ONLY:
            return reason
        parts = self._waiting.setdefault(reason, {})
        if part not in parts:
            level = logging.INFO if parts else logging.WARNING
            log.log(level, "%s waits for the database: %s", part, reason)
            parts[part] = None
            self._reported_at.setdefault(reason, now)
        elif now - self._reported_at[reason] >= self._remind_seconds:
            log.warning("still waiting for the database: %s (%s)", reason, ", ".join(parts))
            self._reported_at[reason] = now
        return reason

    def end(self, part: str) -> None:
        """Note that ``part`` no longer waits; cheap while no part waits."""
        if not self._waiting:
            return
        for reason, parts in list(self._waiting.items()):
            parts.pop(part, None)
            if not parts:
                del self._waiting[reason], self._reported_at[reason]
                log.info("nothing waits for the database any more because of this: %s", reason)


def reason_of(error: BaseException) -> str:
    """The reason in words, without any value of a row: a state, or the table or right that is missing."""
    found, state = _innermost(error), _state_of(error)
    if state in _NAMES_ONLY:
        return str(found).partition("\n")[0][:_MOST_CHARACTERS]
    if state in _REASONS:
        return _REASONS[state]
    if isinstance(found, NoConnectionFree):
        return "every connection of this node's pool is in use"
    if isinstance(found, TimeoutError):
        return "PostgreSQL does not answer in time"
    if isinstance(found, OSError):
        return f"PostgreSQL is out of reach ({found.strerror or type(found).__name__})"
    return f"{type(found).__name__}{f' (SQLSTATE {state})' if state else ''}"


def _state_of(error: BaseException) -> str | None:
    state = getattr(_innermost(error), "sqlstate", None)
    return state if isinstance(state, str) else None


def _innermost(error: BaseException) -> BaseException:
    """The driver's own error inside its wrappers."""
    while getattr(error, "sqlstate", None) is None or type(error).__module__.startswith("sqlalchemy"):
        inner = getattr(error, "orig", None) or error.__cause__
        if not isinstance(inner, BaseException):
            break
        error = inner
    return error

"""Log lines about streams: one when a stream begins, when this node closes it, and when it has ended.

The lines are at level INFO of a logger of their own, which `realtime.logs.configure` turns on or off.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from realtime.logs import CONNECTIONS

WEBSOCKET: Final = "a WebSocket"
EVENT_STREAM: Final = "an event stream"

_log: Final = logging.getLogger(CONNECTIONS)


def report_begin(kind: str, user_id: UUID, session_id: str) -> None:
    """A stream of ``kind`` has begun."""
    if _log.isEnabledFor(logging.INFO):
        _log.info("%s begins", kind, extra={"user": str(user_id), "session_id": session_id})


def report_close(kind: str, user_id: UUID | None, session_id: str, code: int) -> None:
    """This node ends a stream with ``code``; ``user_id`` is None for a client without a user."""
    if _log.isEnabledFor(logging.INFO):
        extra = {"session_id": session_id, "code": code} | ({} if user_id is None else {"user": str(user_id)})
        _log.info("%s is closed", kind, extra=extra)


def report_end(kind: str, user_id: UUID, session_id: str, begun_at: float) -> None:
    """The connection of a stream is gone; ``begun_at`` is the monotonic time at which it opened."""
    if _log.isEnabledFor(logging.INFO):
        duration_ms = int((time.monotonic() - begun_at) * 1000)
        _log.info(
            "%s has ended", kind,
            extra={"user": str(user_id), "session_id": session_id, "duration_ms": duration_ms},
        )  # fmt: skip


@contextlib.contextmanager
def reported(kind: str, user_id: UUID, session_id: str) -> Iterator[None]:
    """Reports that a stream begins, and that it has ended when the context ends."""
    begun_at = time.monotonic()
    report_begin(kind, user_id, session_id)
    try:
        yield
    finally:
        report_end(kind, user_id, session_id, begun_at)

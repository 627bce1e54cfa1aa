"""Reports accounts whose rows the database cannot read: in full once, and then in one line a minute for each."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Final
from uuid import UUID

log = logging.getLogger(__name__)

_REMIND_SECONDS: Final = 60.0
#: With more accounts than this, another problem exists, and each may be reported again.
_MOST: Final = 10_000


class Unreadable:
    """Remembers the reported accounts, because every sweep finds them again."""

    def __init__(self) -> None:
        self._reported_at: dict[UUID, float] = {}

    def report(self, user_id: UUID, error: Exception) -> None:
        """Report that this account could not be read now."""
        now, reported_at = time.monotonic(), self._reported_at.get(user_id)
        extra = {"user": str(user_id)}
        if reported_at is None:
            text = "an account cannot be evaluated; its clients get `stale`"
            log.error(text, extra=extra, exc_info=error)
        elif now - reported_at > _REMIND_SECONDS:
            log.error("an account still cannot be evaluated: %s", type(error).__name__, extra=extra)
        else:
            return
        if len(self._reported_at) >= _MOST:
            self._reported_at.clear()
        self._reported_at[user_id] = now

    def forget_all(self, user_ids: Iterable[UUID]) -> None:
        """Forget the accounts that were read."""
        if not self._reported_at:  # nearly always
            return
        for user_id in user_ids:
            if self._reported_at.pop(user_id, None) is not None:
                log.warning("an account can be evaluated again", extra={"user": str(user_id)})

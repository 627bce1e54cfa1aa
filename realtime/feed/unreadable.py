"""Accounts whose rows the database cannot read: told of in full once, and then in a line a minute each."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Final
from uuid import UUID

log = logging.getLogger(__name__)

_REMIND_SECONDS: Final = 60.0
#: Beyond so many something else is wrong, and each may be told of anew.
_MOST: Final = 10_000


class Unreadable:
    """Remembers what was told; every sweep finds such an account again."""

    def __init__(self) -> None:
        self._told_at: dict[UUID, float] = {}

    def tell(self, user_id: UUID, error: Exception) -> None:
        """This account could not be read now."""
        now, told_at = time.monotonic(), self._told_at.get(user_id)
        extra = {"user": str(user_id)}
        if told_at is None:
            text = "an account cannot be evaluated; its clients are told `stale`"
            log.error(text, extra=extra, exc_info=error)
        elif now - told_at > _REMIND_SECONDS:
            log.error("an account still cannot be evaluated: %s", type(error).__name__, extra=extra)
        else:
            return
        if len(self._told_at) >= _MOST:
            self._told_at.clear()
        self._told_at[user_id] = now

    def forget_all(self, user_ids: Iterable[UUID]) -> None:
        """These were read."""
        if not self._told_at:  # as nearly always: then nothing is looked at
            return
        for user_id in user_ids:
            if self._told_at.pop(user_id, None) is not None:
                log.warning("an account can be evaluated again", extra={"user": str(user_id)})

"""Accounts with rows in the inbox that are not applied yet, as a sweep found them."""

from __future__ import annotations

from typing import Final, NamedTuple
from uuid import UUID


class WaitingAccounts(NamedTuple):
    """Accounts with rows in the inbox, as one sweep found them; None stands for every account.

    An earlier sweep began at ``read_at`` (monotonic seconds; the database's time was ``as_of``). The rows of
    accounts in ``recent`` became visible after that sweep, so the state of these accounts was complete at that time.
    Accounts in ``old`` have rows that waited already then.
    """

    read_at: float
    as_of: str
    recent: frozenset[UUID | None]
    old: frozenset[UUID | None]


NOTHING_WAITS: Final = WaitingAccounts(float("-inf"), "", frozenset(), frozenset())

"""The watched accounts of a node, as the feed sees them.

The feed and delivery do not import each other. The composition root gives delivery's hub to the feed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol
from uuid import UUID

from realtime.history import Step
from realtime.inbox import WaitingAccounts
from realtime.snapshot import Snapshot

#: An account, the revision of it that was delivered, and the one that a sweep found.
Changed = tuple[UUID, int, int]


class WatchedAccounts(Protocol):
    """The part of the hub that the feed calls; `realtime/delivery/hub.py` describes each method."""

    def watched(self) -> Iterator[tuple[UUID, int]]: ...

    def delivered(self) -> tuple[list[UUID], list[int]]: ...

    def snapshot_of(self, user_id: UUID) -> Snapshot | None: ...

    def is_watched_text(self, user: str) -> bool: ...

    def snapshot_by_text(self, user: str) -> Snapshot | None: ...

    def is_watched(self, user_id: UUID) -> bool: ...

    def is_news(self, user_id: UUID, revision: int) -> bool: ...

    def is_behind(self, user_id: UUID) -> bool: ...

    def is_settled(self, user_id: UUID) -> bool: ...

    def confirm(
        self, as_of: str, read_at: float, changed: list[Changed], waiting: WaitingAccounts
    ) -> None: ...

    def follow(self, snapshot: Snapshot) -> bool: ...

    def publish(
        self, steps: Sequence[Step], *, as_of: str, read_at: float, unapplied: frozenset[UUID] = frozenset()
    ) -> None: ...

    def mark_disputed(self, user_id: UUID, *, disputed: bool) -> None: ...

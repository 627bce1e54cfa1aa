"""Computes the state after a batch from the state before it, and publishes the state without a read.

A change notice may be forged, so a node that receives one only reads the account. A delta is used directly, because it
is authenticated and must follow exactly the revision that this node holds. Any other delta counts as a change notice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from uuid import UUID

from guardwire.state import CHANNELS, DEFAULT_CHANNELS
from queries.delta import Delta, authenticated, moment, parse_deltas, state_after, user_of
from realtime.feed.changes import Changes
from realtime.feed.relay.messages import parse_notice
from realtime.feed.watched import WatchedAccounts
from realtime.history import Step
from realtime.metrics import METRICS
from realtime.owners import count_blocked
from realtime.snapshot import Snapshot

log = logging.getLogger(__name__)

#: A revision is a time in microseconds. A delta with a revision further ahead of this node's clock is not followed,
#: because all later changes would have lower revisions and would not be followed any more.
MOST_AHEAD_SECONDS: Final = 5.0


class Following:
    """From deltas to published snapshots; ``remember`` is None without Redis.

    ``epoch`` gives the database's latest known epoch, as clients see it; ``on_notice`` takes accounts that must be
    read instead.
    """

    def __init__(
        self,
        *,
        hub: WatchedAccounts,
        remember: Callable[[Sequence[Step]], None] | None,
        epoch: Callable[[], int],
        on_notice: Callable[[UUID, int], None],
    ) -> None:
        self._hub = hub
        self._remember = remember
        self._epoch = epoch
        self._on_notice = on_notice
        self._secret = b""

    def take_secret(self, secret: bytes) -> None:
        """Authenticate notifications by ``secret`` from now on."""
        self._secret = secret

    def on_notification(self, notification: str) -> None:
        """Publish the deltas of a notification; a forged one is counted and dropped."""
        payload = authenticated(self._secret, notification)
        if payload is None:
            METRICS.forged_notifications.add()
            log.error("a notification was not authentic; a sweep finds what it may have replaced")
            return
        self._follow(payload.split(";"))

    def on_relayed(self, account: str, text: str) -> None:
        """Publish an authentic message of the relay that came on the channel of ``account``."""
        notice = parse_notice(text)
        if (user_of(text) if notice is None else notice[0]) != account:
            count_blocked("relay", UUID(account))
        elif notice is None:
            self._follow([text])
        elif self._hub.is_watched_text(account):
            self._on_notice(UUID(account), notice[1])

    def on_changes(self, changes: Changes) -> None:
        """Publish the changes that this process itself has just applied."""
        self._follow(changes.deltas)
        for account, revision in changes.notices:
            self._on_notice(account, revision)

    def _follow(self, deltas: Iterable[str]) -> None:
        steps: list[Step] = []
        latest = int((time.time() + MOST_AHEAD_SECONDS) * 1e6)
        try:
            for delta in parse_deltas(deltas, self._hub.is_watched_text):
                base = self._hub.snapshot_by_text(delta.user)
                snapshot = None
                if base is not None and delta.revision <= latest:
                    snapshot = self._after(base, delta)
                if snapshot is not None and self._hub.follow(snapshot):
                    steps.append(Step(snapshot, base))
                else:
                    self._on_notice(UUID(delta.user), delta.revision)
        except ValueError:
            log.error("a delta is not in the format of this release; a sweep will find the change")
        self._keep(steps)

    def _keep(self, steps: Sequence[Step]) -> None:
        METRICS.followed.add(len(steps))
        if steps and self._remember is not None:
            self._remember(steps)

    def _after(self, base: Snapshot, delta: Delta) -> Snapshot | None:
        if delta.base != base.revision or base.epoch != self._epoch():
            return None
        after = state_after(base.state, delta)
        if after is None:
            return None
        state, patch = after
        snapshot = Snapshot(
            user_id=base.user_id,
            epoch=base.epoch,
            revision=delta.revision,
            as_of=moment(str(delta.revision)),
            state=state,
        )
        # No delta changes channel `alerts`, so the patch is that of both choices.
        snapshot.cache_patch(base, (CHANNELS, DEFAULT_CHANNELS), patch)
        return snapshot

"""Following: what a commit told of itself is published at once, and nothing is read.

A hint may be forged and only makes a node look. What is told is believed, because each item carries a code
that only the capture and the nodes can make, and because it must fit: it is taken by who holds the very
revision that it follows on, and not from the future. For everybody else it is a hint.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol
from uuid import UUID

from queries.told import ForgedTellingError, Told, moment, read_told, state_after
from realtime.feed.loop import Writer
from realtime.metrics import METRICS
from realtime.state import CHANNELS
from realtime.store.snapshot import Snapshot
from realtime.store.snapshots import Step

log = logging.getLogger(__name__)

#: A revision is the microseconds of its commit. One further ahead of this clock is read, not believed.
_MOST_AHEAD_SECONDS: Final = 5.0
_WARNING_SECONDS: Final = 60.0


class Followed(Protocol):
    """What following needs of the hub."""

    def is_named(self, user: str) -> bool: ...

    def snapshot_named(self, user: str) -> Snapshot | None: ...

    def follow(self, snapshot: Snapshot) -> bool: ...


class Following:
    """From notifications to published snapshots; ``writer`` is None without Redis.

    ``epoch`` gives the epoch that the database was last seen at, as clients see it; ``on_hint`` takes what
    must be read instead.
    """

    def __init__(
        self,
        *,
        hub: Followed,
        writer: Writer | None,
        epoch: Callable[[], int],
        on_hint: Callable[[UUID, int], None],
    ) -> None:
        self._hub = hub
        self._writer = writer
        self._epoch = epoch
        self._on_hint = on_hint
        self._next_warning_at = float("-inf")

    def on_told(self, payload: str, secret: bytes) -> None:
        """Publish what a notification told; ``secret`` is what the codes of its items are made with.

        What is forged, or cannot be understood, is left to the sweep.
        """
        steps: list[Step] = []
        try:
            for told in read_told(payload, secret, self._hub.is_named):
                base = self._hub.snapshot_named(told.user)
                snapshot = None if base is None else self._after(base, told)
                if snapshot is not None and self._hub.follow(snapshot):
                    steps.append(Step(snapshot, base))
                else:
                    self._on_hint(UUID(told.user), told.revision)
        except ForgedTellingError:
            METRICS.forged_tellings.add()
            self._warn_of_forgery()
        except ValueError:
            log.error("a commit told what this release does not understand; a sweep will find the change")
        self._keep(steps)

    def _warn_of_forgery(self) -> None:
        """Once a minute at most: what anybody may cause must not fill the log."""
        now = time.monotonic()
        if now >= self._next_warning_at:
            self._next_warning_at = now + _WARNING_SECONDS
            log.error(
                "a notification on the channel of the capture is not the capture's, and was left out: some"
                " login knows the channel's name; `guardwire rotate-channel` replaces it"
            )

    def _keep(self, steps: Sequence[Step]) -> None:
        METRICS.followed.add(len(steps))
        if steps and self._writer is not None:
            self._writer.remember(steps)

    def _after(self, base: Snapshot, told: Told) -> Snapshot | None:
        if told.base != base.revision or base.epoch != self._epoch():
            return None
        if told.revision > (time.time() + _MOST_AHEAD_SECONDS) * 1e6:
            return None
        after = state_after(base.state, told)
        if after is None:
            return None
        state, patch = after
        snapshot = Snapshot(
            user_id=base.user_id,
            epoch=base.epoch,
            revision=told.revision,
            as_of=moment(str(told.revision)),
            state=state,
        )
        snapshot.know_patch(base, CHANNELS, patch)
        return snapshot

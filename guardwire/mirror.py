"""A copy of the server's state that is either exactly right for its revision or known to be waiting for a
snapshot.

Frames in, reactions out; no I/O. The rules are those of PROTOCOL.md, "The mirror", and
`static/client/mirror.js` passes the same vectors (`tests/vectors/`).
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from guardwire import patch
from guardwire.messages import Heartbeat, ServerFrame, Snapshot, Update, Welcome
from guardwire.patch import State


class Reaction(Enum):
    """What a frame made of the mirror."""

    APPLIED = "applied"  # the state is now the frame's
    CONFIRMED = "confirmed"  # the state is as it was, and the server says so
    RESYNC = "resync"  # something was missed: a snapshot must be asked for
    IGNORED = "ignored"  # the state is neither better nor worse known than before


class Position(NamedTuple):
    """Where a mirror stands in its account's history, and the channels that it holds there."""

    epoch: int
    revision: int
    channels: frozenset[str]

    def __str__(self) -> str:
        """As ``?since=``, ``ETag`` and ``Last-Event-ID`` write it."""
        return f"{self.epoch}:{self.revision}"


class Mirror:
    """The state, its position, and whether it is waiting; states are replaced and never changed."""

    def __init__(self) -> None:
        #: None before the first snapshot.
        self.state: State | None = None
        #: Whether the state is behind, so that only a snapshot can mend it.
        self.waiting = True
        self.epoch = 0
        self.revision = 0

    @property
    def position(self) -> Position | None:
        """Where to resume from; None before the first snapshot."""
        return None if self.state is None else Position(self.epoch, self.revision, frozenset(self.state))

    def receive(self, frame: ServerFrame) -> Reaction:
        """Take one frame of the current connection, in order."""
        match frame:
            case Welcome():
                return self._begin(frame)
            case Snapshot():
                return self._replace(frame)
            case Update():
                return self._advance(frame, frame.patch)
            case Heartbeat():
                return self._advance(frame, {})
            case _:
                return Reaction.IGNORED

    def missed(self) -> Reaction:
        """Give up following: what comes is ignored until a snapshot."""
        self.waiting = True
        return Reaction.RESYNC

    def _begin(self, welcome: Welcome) -> Reaction:
        # A server that could not resume sends a snapshot unasked.
        self.waiting = not welcome.resumed
        if welcome.resumed and (self.state is None or welcome.epoch != self.epoch):
            return self.missed()
        return Reaction.IGNORED

    def _replace(self, frame: Snapshot) -> Reaction:
        # Within an epoch nothing older may follow something newer: such a snapshot is a lagging node's.
        if self.state is not None and frame.epoch == self.epoch and frame.revision < self.revision:
            return self.missed()
        self.epoch, self.revision, self.waiting = frame.epoch, frame.revision, False
        if self.state == frame.state:
            return Reaction.CONFIRMED
        self.state = frame.state
        return Reaction.APPLIED

    def _advance(self, frame: Update | Heartbeat, change: State) -> Reaction:
        if self.waiting or self.state is None:
            return Reaction.IGNORED
        if frame.base != self.revision or frame.revision < frame.base:
            return self.missed()
        self.revision = frame.revision
        after = patch.apply(self.state, change) if change else self.state
        if after == self.state:
            return Reaction.CONFIRMED
        self.state = after
        return Reaction.APPLIED

"""The client's knowledge of its account: the state, how fresh it is, and what each frame makes necessary.

No I/O happens here. The rules are those of PROTOCOL.md, "The mirror" and "Freshness"; `static/client/mirror.js` passes
the same vectors (`tests/vectors/`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final, Literal, NamedTuple

import msgspec

from guardwire import patch
from guardwire.clock import Instant, elapsed_seconds
from guardwire.errors import ClientError
from guardwire.messages import (
    AuthOk,
    AuthRequired,
    Error,
    Heartbeat,
    ServerFrame,
    SnapshotFrame,
    Update,
    Welcome,
)
from guardwire.patch import State
from guardwire.state import AccountState
from guardwire.timing import Timing
from guardwire.turns import Turns

_CHANNEL_FIELDS: Final = msgspec.structs.fields(AccountState)

#: ``connected``: the state is confirmed and the server sees its database. ``stale``: the state may have moved on,
#: because the link is down, a snapshot is awaited, or the server itself is not sure. ``blind``: no frame confirmed the
#: state for 15 s (or for three heartbeats, where those are rarer than every 5 s), or none ever did.
Level = Literal["connected", "stale", "blind"]


class Reaction(Enum):
    """The effect of a frame on the mirror."""

    APPLIED = "applied"  # the state is now the frame's
    CONFIRMED = "confirmed"  # the state is as it was, and the server confirms it
    RESYNC = "resync"  # a frame was missed, so a snapshot has to be requested
    IGNORED = "ignored"  # the state is neither better nor worse known than before


class ResumePoint(NamedTuple):
    """Epoch and revision that a mirror stands at, and the channels that it holds there."""

    epoch: int
    revision: int
    channels: frozenset[str]

    def __str__(self) -> str:
        """The text of ``?since=``, ``ETag`` and ``Last-Event-ID``."""
        return f"{self.epoch}:{self.revision}"


class Mirror:
    """A copy of the server's state that is exactly right for its revision, or is known to wait for a snapshot."""

    def __init__(self) -> None:
        #: None before the first snapshot. A new state replaces it; it is never changed.
        self.state: State | None = None
        #: Whether a frame was missed, so that only a snapshot can make the state right again.
        self.is_waiting = True
        self.epoch = 0
        self.revision = 0

    @property
    def resume_point(self) -> ResumePoint | None:
        """Where to resume from; None before the first snapshot."""
        if self.state is None:
            return None
        return ResumePoint(self.epoch, self.revision, frozenset(self.state))

    def receive(self, frame: ServerFrame) -> Reaction:
        """Take one frame of the current connection, in order."""
        match frame:
            case Welcome():
                return self._begin(frame)
            case SnapshotFrame():
                return self._replace(frame)
            case Update():
                return self._advance(frame, frame.patch)
            case Heartbeat():
                return self._advance(frame, {})
            case _:
                return Reaction.IGNORED

    def give_up(self) -> Reaction:
        """Ignore every frame until a snapshot comes."""
        self.is_waiting = True
        return Reaction.RESYNC

    def _begin(self, welcome: Welcome) -> Reaction:
        # A server that could not resume sends a snapshot without a request.
        self.is_waiting = not welcome.resumed
        if not welcome.resumed:
            return Reaction.IGNORED
        if self.state is None or welcome.epoch != self.epoch:
            return self.give_up()
        # A channel that the server does not serve on this link gets no updates.
        self.state = {name: value for name, value in self.state.items() if name in welcome.channels}
        return Reaction.IGNORED

    def _replace(self, frame: SnapshotFrame) -> Reaction:
        # An older revision of the same epoch comes from a node that lags behind.
        if self.state is not None and frame.epoch == self.epoch and frame.revision < self.revision:
            return self.give_up()
        self.epoch, self.revision, self.is_waiting = frame.epoch, frame.revision, False
        if self.state == frame.state:
            return Reaction.CONFIRMED
        self.state = frame.state
        return Reaction.APPLIED

    def _advance(self, frame: Update | Heartbeat, change: State) -> Reaction:
        if self.is_waiting or self.state is None:
            return Reaction.IGNORED
        if frame.base != self.revision or frame.revision < frame.base:
            return self.give_up()
        self.revision = frame.revision
        after = patch.apply(self.state, change) if change else self.state
        if after == self.state:
            return Reaction.CONFIRMED
        self.state = after
        return Reaction.APPLIED


class StateAge:
    """The age and the level of the state, by the time that has passed on this machine and by no other clock."""

    def __init__(self, timing: Timing | None = None) -> None:
        self._timing = timing or Timing()
        self._blind_after_seconds = self._timing.silence_seconds
        self._confirmed_at: Instant | None = None
        self._age_then_seconds = 0.0
        self._read_at: datetime | None = None
        self._is_doubted = True

    @property
    def blind_after_seconds(self) -> float:
        """How long the state may go without a frame that confirms it."""
        return self._blind_after_seconds

    def confirm(self, frame: SnapshotFrame | Update | Heartbeat, at: Instant) -> None:
        """Note a ``frame`` that left the mirror exact; it was received ``at`` at the earliest."""
        self._confirmed_at = at
        self._age_then_seconds = max(frame.age_ms, 0) / 1000
        self._read_at = _parse_time(frame.as_of)
        self._is_doubted = isinstance(frame, Heartbeat) and frame.stale

    def doubt(self) -> None:
        """Note that a frame was missed."""
        self._is_doubted = True

    def note_welcome(self, welcome: Welcome) -> None:
        """Note how often the server of this link sends heartbeats."""
        self._blind_after_seconds = self._timing.silence_limit_seconds(welcome.heartbeat_seconds)

    def note_link_ended(self) -> None:
        """Note that the link is gone, and with it the server's promise of heartbeats."""
        self._is_doubted = True
        self._blind_after_seconds = self._timing.silence_seconds

    def level(self, now: Instant) -> Level:
        """The level of confidence in the state ``now``."""
        limit_seconds = self._blind_after_seconds
        if self._confirmed_at is None or elapsed_seconds(self._confirmed_at, now) >= limit_seconds:
            return "blind"
        age_seconds = self._age_then_seconds + elapsed_seconds(self._confirmed_at, now)
        return "stale" if self._is_doubted or age_seconds >= limit_seconds else "connected"

    def age_seconds(self, now: Instant) -> float | None:
        """Seconds since the read began that the state is from; None before the first state."""
        if self._confirmed_at is None:
            return None
        return self._age_then_seconds + elapsed_seconds(self._confirmed_at, now)

    def database_now(self, now: Instant) -> datetime | None:
        """The database's own time in UTC, without trust in a clock of this machine; None when no frame had it."""
        age_seconds = self.age_seconds(now)
        if self._read_at is None or age_seconds is None:
            return None
        return self._read_at + timedelta(seconds=age_seconds)


def _parse_time(as_of: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(as_of)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment


class SnapshotRequests:
    """When to request a snapshot: at once after a missed frame, and again when the answer does not come."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._waiting_since: Instant | None = None

    def should_request(self, *, is_missed: bool, is_waiting: bool, now: Instant) -> bool:
        """Whether to request a snapshot after a frame.

        ``is_missed``: the mirror has just noticed that a frame was missed. ``is_waiting``: the mirror waits for a
        snapshot after this frame.
        """
        is_first = self._waiting_since is None
        self._waiting_since = (self._waiting_since or now) if is_waiting else None
        return is_waiting and is_first and is_missed

    def should_repeat(self, now: Instant) -> bool:
        """Whether the answer is overdue; then the wait begins anew."""
        since = self._waiting_since
        if since is None or elapsed_seconds(since, now) < self._timing.snapshot_seconds:
            return False
        self._waiting_since = now
        return True


class Held(msgspec.Struct, frozen=True):
    """One consistent state: everything in it belongs to ``revision``."""

    epoch: int
    revision: int
    as_of: str
    raw: State
    state: AccountState


class Need(Enum):
    """The thing that the connection has to get after a frame."""

    NOTHING = "nothing"
    SNAPSHOT = "a snapshot"
    RENEWAL = "a new token"


class MirroredAccount:
    """Everything that a caller can read of one account; it outlives the links that feed it."""

    def __init__(self, timing: Timing | None = None) -> None:
        self.mirror = Mirror()
        self.age = StateAge(timing)
        self.turns = Turns()
        #: Channels that are subscribed to once a link is open. Until they come, callers read them as they were, and the
        #: state is in doubt.
        self.late_channels: frozenset[str] = frozenset()
        #: None before the first snapshot.
        self.held: Held | None = None
        #: The server's last error frame; None when none came since the last welcome.
        self.problem: Error | None = None

    def receive(self, frame: ServerFrame, at: Instant) -> Need:
        """Take one frame that was received ``at`` at the earliest.

        Raises ClientError for a state that this release cannot read.
        """
        match frame:
            case AuthRequired():
                return Need.RENEWAL
            case Welcome():
                self.problem = None
                self.age.note_welcome(frame)
            case AuthOk():
                self.problem = None
            case Error():
                self.problem = frame
            case _:
                pass
        reaction = self.mirror.receive(frame)
        if reaction in (Reaction.APPLIED, Reaction.CONFIRMED):
            assert isinstance(frame, SnapshotFrame | Update | Heartbeat)
            reaction = self._publish(frame, at)
        if reaction is Reaction.RESYNC:
            self.age.doubt()
            return Need.SNAPSHOT
        return Need.NOTHING

    def note_link_ended(self) -> None:
        """Note that the link is gone, so the state may have moved on."""
        self.age.note_link_ended()

    def level(self, now: Instant) -> Level:
        """The level of confidence in the state ``now``."""
        return self.age.level(now)

    def resume_point(self, channels: frozenset[str]) -> str | None:
        """The text to resume from with ``channels``; None when only a snapshot will do."""
        point = self.mirror.resume_point
        if point is None or self.mirror.is_waiting:
            return None
        # The state of a late channel is dropped when the server resumes without that channel.
        is_held = point.channels == channels or point.channels - self.late_channels == channels
        return str(point) if is_held else None

    def _publish(self, frame: SnapshotFrame | Update | Heartbeat, at: Instant) -> Reaction:
        """Let callers read the mirror's state, if all of it can be read."""
        raw = self.mirror.state
        assert raw is not None
        if missing := self._missing(raw):
            raw = {**raw, **missing}
        try:
            state = _convert(raw, self.held)
        except msgspec.ValidationError as error:
            if isinstance(frame, SnapshotFrame):
                raise ClientError(f"this client cannot read the server's state: {error}") from error
            return self.mirror.give_up()
        self.held = Held(self.mirror.epoch, self.mirror.revision, frame.as_of, raw, state)
        if state.alerts is not None and not missing:
            self.turns.receive(state.alerts, epoch=self.held.epoch, revision=self.held.revision)
        self.age.confirm(frame, at)
        if missing:
            self.age.doubt()
        return Reaction.CONFIRMED

    @property
    def awaits_channels(self) -> bool:
        """Whether a late channel has never come."""
        return self.held is not None and not self.late_channels <= self.held.raw.keys()

    @property
    def has_late_channels(self) -> bool:
        """Whether callers read a channel as it was before the link."""
        return self.mirror.state is not None and bool(self._missing(self.mirror.state))

    def _missing(self, raw: State) -> State:
        """The late channels that the link has not brought yet, as they were."""
        if self.held is None:
            return {}
        before = self.held.raw
        return {name: before[name] for name in self.late_channels if name not in raw and name in before}


def _convert(raw: State, held: Held | None) -> AccountState:
    """``raw`` as structs; a channel that did not change is the same struct as before."""
    channels: dict[str, Any] = {}
    for field in _CHANNEL_FIELDS:
        value = raw.get(field.name)
        if held is not None and held.raw.get(field.name) is value:
            channels[field.name] = getattr(held.state, field.name)
        else:
            channels[field.name] = msgspec.convert(value, field.type)
    return AccountState(**channels)

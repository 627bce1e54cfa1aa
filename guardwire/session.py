"""What a client knows: the published state, how fresh it is, and what a frame asks the connection to do. No
I/O.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import msgspec

from guardwire.clock import Instant
from guardwire.errors import ClientError
from guardwire.freshness import Freshness, Status
from guardwire.messages import AuthOk, AuthRequired, Error, Heartbeat, ServerFrame, Snapshot, Update, Welcome
from guardwire.mirror import Mirror, Reaction
from guardwire.patch import State
from guardwire.state import AccountState

_CHANNEL_FIELDS: Final = msgspec.structs.fields(AccountState)


class Held(msgspec.Struct, frozen=True):
    """One consistent cut: everything in it belongs to ``revision``."""

    epoch: int
    revision: int
    as_of: str
    raw: State
    state: AccountState


class Ask(Enum):
    """What a frame asks the connection to do."""

    NOTHING = "nothing"
    RESYNC = "resync"  # get a snapshot
    REFRESH = "refresh"  # get a fresh token to the server


class Session:
    """Spans all connections of one account; everything that a caller reads comes from here."""

    def __init__(self) -> None:
        self.mirror = Mirror()
        self.freshness = Freshness()
        #: None before the first snapshot.
        self.held: Held | None = None
        #: Unix seconds by the server's clock; None while unknown.
        self.expires_at: int | None = None
        #: The server's last word about a refusal.
        self.problem: Error | None = None

    def receive(self, frame: ServerFrame, at: Instant) -> Ask:
        """Take one frame that was read ``at`` at the earliest; raises ClientError for a state that this
        client cannot read.
        """
        match frame:
            case AuthRequired(expires_at=expires_at):
                self.expires_at = expires_at
                return Ask.REFRESH
            case Welcome(expires_at=expires_at) | AuthOk(expires_at=expires_at):
                self.expires_at, self.problem = expires_at, None
            case Error():
                self.problem = frame
            case _:
                pass
        reaction = self.mirror.receive(frame)
        if reaction in (Reaction.APPLIED, Reaction.CONFIRMED):
            assert isinstance(frame, Snapshot | Update | Heartbeat)
            reaction = self._publish(frame, at)
        if reaction is Reaction.RESYNC:
            self.freshness.doubt()
            return Ask.RESYNC
        return Ask.NOTHING

    def lost(self) -> None:
        """The connection is gone: what is held may have moved on."""
        self.freshness.doubt()

    def status(self, now: Instant) -> Status:
        """See `Freshness.status`."""
        return self.freshness.status(now)

    def resumable(self, channels: frozenset[str]) -> str | None:
        """The position to resume from with ``channels``, as text; None when only a snapshot will do."""
        position = self.mirror.position
        if position is None or self.mirror.waiting or position.channels != channels:
            return None
        return str(position)

    def _publish(self, frame: Snapshot | Update | Heartbeat, at: Instant) -> Reaction:
        """Make the mirror's state the published one, whole, or not at all."""
        raw = self.mirror.state
        assert raw is not None
        try:
            state = _typed(raw, self.held)
        except msgspec.ValidationError as error:
            if isinstance(frame, Snapshot):
                raise ClientError(f"this client cannot read the server's state: {error}") from error
            return self.mirror.missed()
        self.held = Held(self.mirror.epoch, self.mirror.revision, frame.as_of, raw, state)
        self.freshness.confirm(frame, at)
        return Reaction.CONFIRMED


def _typed(raw: State, held: Held | None) -> AccountState:
    """``raw`` as structs; channels that did not change are the same structs as before."""
    channels: dict[str, Any] = {}
    for field in _CHANNEL_FIELDS:
        value = raw.get(field.name)
        if held is not None and held.raw.get(field.name) is value:
            channels[field.name] = getattr(held.state, field.name)
        else:
            channels[field.name] = msgspec.convert(value, field.type)
    return AccountState(**channels)

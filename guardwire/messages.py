"""The frames of the stream: one tagged struct each, one union for each direction (PROTOCOL.md, "Frames").

A client sends a `ClientFrame`. It is decoded strictly: a misspelt field is an error that names the field, and not a
silent default. The server sends a `ServerFrame`. Its unknown fields are ignored, so that servers may add fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from guardwire.state import ChannelName

SUBPROTOCOL: Final = "guardwire.v1"


#: An epoch or a revision as a client sends it. Larger numbers never exist, and would only cost the time to read them.
HistoryNumber = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
#: The name of a bot or person: printable ASCII that begins with no space.
Name = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[!-~][ -~]*$(?!\n)")]
#: A sentence for people, without control characters.
Note = Annotated[str, msgspec.Meta(max_length=500, pattern=r"^[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$(?!\n)")]
#: An id that no alert has is answered as an unknown one.
AlertId = Annotated[str, msgspec.Meta(max_length=64)]
Generation = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
#: How far the client is: it has seen the alert, it acts, or it has acted.
Action = Literal["received", "acting", "done"]
SnoozeSeconds = Annotated[int, msgspec.Meta(ge=1, le=3_600)]
LeaseSeconds = Annotated[float, msgspec.Meta(ge=5, le=60)]


class _FromClient(
    msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True, omit_defaults=True
):
    """A frame with an unknown field is refused."""


class Resume(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The epoch and revision of the state that a client holds, and its channels (None: those of the hello)."""

    epoch: HistoryNumber
    revision: HistoryNumber
    channels: tuple[ChannelName, ...] | None = None

    @property
    def position(self) -> tuple[int, int]:
        """Epoch and revision, as a pair that only grows."""
        return self.epoch, self.revision


class Hello(_FromClient, frozen=True, tag="hello"):
    """The first frame of a browser; ``token`` may be left out where a header carries it."""

    token: str | None = None
    channels: tuple[ChannelName, ...] | None = None
    resume: Resume | None = None


class Subscribe(_FromClient, frozen=True, tag="subscribe"):
    """Add channels; the server sends each one as a whole."""

    channels: tuple[ChannelName, ...]


class Unsubscribe(_FromClient, frozen=True, tag="unsubscribe"):
    """Drop channels; the server sends ``{channel: null}`` for each one."""

    channels: tuple[ChannelName, ...]


class Auth(_FromClient, frozen=True, tag="auth"):
    """A new token of the same user."""

    token: str


class Resync(_FromClient, frozen=True, tag="resync"):
    """Request a snapshot."""


class Ack(_FromClient, frozen=True, tag="ack"):
    """Acknowledge alerts, each in the generation that the client holds; ``as`` names the bot or person.

    Each alert is answered once: in an ``ack_ok``, or in an ``error`` that names it.
    """

    alerts: Annotated[dict[AlertId, Generation], msgspec.Meta(min_length=1, max_length=64)]
    by: Name = msgspec.field(name="as")
    action: Action = "received"


class Snooze(_FromClient, frozen=True, tag="snooze"):
    """Put the escalation of an alert off; the alert stays in the state, and counts as not acknowledged."""

    alert: AlertId
    generation: Generation
    seconds: SnoozeSeconds
    by: Name = msgspec.field(name="as")
    reason: Note


class Attend(_FromClient, frozen=True, tag="attend"):
    """The bot works, and attends the account for ``lease_seconds`` from now; answered only when it is refused."""

    by: Name = msgspec.field(name="as")
    lease_seconds: LeaseSeconds


class Leave(_FromClient, frozen=True, tag="leave"):
    """The bot attends the account no longer; answered only when it is refused."""

    by: Name = msgspec.field(name="as")
    reason: Note | None = None


#: Frames about alerts and attendance, which need the scope ``guards:ack``.
AlertFrame = Ack | Snooze | Attend | Leave
ClientFrame = Hello | Subscribe | Unsubscribe | Auth | Resync | Ack | Snooze | Attend | Leave

#: The types of `AlertFrame`, as a `Welcome` offers them.
OFFERED_FRAMES: Final = ("ack", "snooze", "attend", "leave")


class _FromServer(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """An unknown field is ignored."""


class Offers(msgspec.Struct, frozen=True):
    """The channels and the frames about alerts that a node takes; open lists, which newer nodes extend."""

    channels: tuple[str, ...]
    frames: tuple[str, ...]


class Welcome(_FromServer, frozen=True, tag="welcome"):
    """The first frame of the server, sent once the account is watched; ``expires_at`` is in unix seconds.

    ``offers`` is None of a server that takes the first release's frames and channels only.
    """

    session: str
    epoch: int
    channels: tuple[ChannelName, ...]
    expires_at: int
    heartbeat_seconds: float
    resumed: bool
    offers: Offers | None = None


class SnapshotFrame(_FromServer, frozen=True, tag="snapshot"):
    """The whole state at a revision; it replaces the state that the client holds."""

    epoch: int
    revision: int
    as_of: str
    age_ms: int
    state: dict[str, Any]


class Update(_FromServer, frozen=True, tag="update"):
    """A JSON Merge Patch (RFC 7396) from ``base`` to ``revision``; only a client that holds ``base`` may apply it."""

    base: int
    revision: int
    as_of: str
    age_ms: int
    patch: dict[str, Any]


class Heartbeat(_FromServer, frozen=True, tag="heartbeat"):
    """An empty update that says how old the server's knowledge is.

    ``stale`` is true when the server cannot read the database, or when rows of the platform wait to be applied.
    """

    base: int
    revision: int
    as_of: str
    age_ms: int
    stale: bool


class AuthRequired(_FromServer, frozen=True, tag="auth_required"):
    """The token ends at ``expires_at`` (unix seconds); the client has to send an ``auth`` frame before."""

    expires_at: int


class AuthOk(_FromServer, frozen=True, tag="auth_ok"):
    """The new token was accepted; it ends at ``expires_at`` (unix seconds)."""

    expires_at: int


class Move(_FromServer, frozen=True, tag="move"):
    """Open another connection within ``within_ms``, and close this one once the other has resumed."""

    within_ms: int


class AckOk(_FromServer, frozen=True, tag="ack_ok"):
    """These alerts are acknowledged in these generations, by this client or by another one before it."""

    alerts: dict[str, int]
    revision: int


class SnoozeOk(_FromServer, frozen=True, tag="snooze_ok"):
    """The escalation of this alert is put off."""

    alert: str
    generation: int
    revision: int


class Error(_FromServer, frozen=True, tag="error"):
    """The server refused a request; ``retry``: the same request may succeed later, after ``retry_after_ms``.

    ``alert`` is the alert of the ``ack`` or ``snooze`` that was refused.
    """

    code: str
    message: str
    retry: bool
    retry_after_ms: int | None = None
    alert: str | None = None


ServerFrame = (
    Welcome | SnapshotFrame | Update | Heartbeat | AuthRequired | AuthOk | Move | AckOk | SnoozeOk | Error
)

decode_client_frame: Final = msgspec.json.Decoder(ClientFrame).decode
decode_server_frame: Final = msgspec.json.Decoder(ServerFrame).decode
encode: Final = msgspec.json.Encoder().encode

"""The frames of the stream: one tagged struct each, one union for each direction (PROTOCOL.md, "Frames").

`ClientFrame` is what a client may send; decoding is strict, so a misspelt field is an error with its name and
not a silent default. `ServerFrame` is what a client gets; unknown fields are ignored there, so that servers
may
grow.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from guardwire.state import ChannelName

SUBPROTOCOL: Final = "guardwire.v1"


#: What a client says that it holds; longer numbers than there can be would only cost the time to read them.
Position = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class _FromClient(
    msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True, omit_defaults=True
):
    """Fields that the server does not know are refused."""


class Resume(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The position that a client holds, and the channels that it holds there (None: those of the hello)."""

    epoch: Position
    revision: Position
    channels: tuple[ChannelName, ...] | None = None

    @property
    def position(self) -> tuple[int, int]:
        """Epoch and revision, which grow in this order."""
        return self.epoch, self.revision


class Hello(_FromClient, frozen=True, tag="hello"):
    """First frame of a browser; ``token`` may be left out where a header authenticated."""

    token: str | None = None
    channels: tuple[ChannelName, ...] | None = None
    resume: Resume | None = None


class Subscribe(_FromClient, frozen=True, tag="subscribe"):
    """Add channels; each arrives whole."""

    channels: tuple[ChannelName, ...]


class Unsubscribe(_FromClient, frozen=True, tag="unsubscribe"):
    """Drop channels; each leaves as ``{channel: null}``."""

    channels: tuple[ChannelName, ...]


class Auth(_FromClient, frozen=True, tag="auth"):
    """A fresh token for the same user."""

    token: str


class Resync(_FromClient, frozen=True, tag="resync"):
    """Ask for a snapshot."""


ClientFrame = Hello | Subscribe | Unsubscribe | Auth | Resync


class _FromServer(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Fields that a client does not know are ignored."""


class Welcome(_FromServer, frozen=True, tag="welcome"):
    """Sent once the account is really being watched; ``expires_at`` is in unix seconds."""

    session: str
    epoch: int
    channels: tuple[ChannelName, ...]
    expires_at: int
    heartbeat_seconds: float
    resumed: bool


class Snapshot(_FromServer, frozen=True, tag="snapshot"):
    """The whole state at a revision; it replaces what the client holds."""

    epoch: int
    revision: int
    as_of: str
    age_ms: int
    state: dict[str, Any]


class Update(_FromServer, frozen=True, tag="update"):
    """A JSON Merge Patch (RFC 7396) from ``base`` to ``revision``; for a client that holds ``base`` only."""

    base: int
    revision: int
    as_of: str
    age_ms: int
    patch: dict[str, Any]


class Heartbeat(_FromServer, frozen=True, tag="heartbeat"):
    """An empty update, with how old the server's knowledge is.

    ``stale`` is true when the server cannot read the database, or when rows of the platform wait to be applied.
    """

    base: int
    revision: int
    as_of: str
    age_ms: int
    stale: bool


class AuthRequired(_FromServer, frozen=True, tag="auth_required"):
    """The token ends at ``expires_at`` (unix seconds): send an ``auth`` frame before."""

    expires_at: int


class AuthOk(_FromServer, frozen=True, tag="auth_ok"):
    """The fresh token was accepted; it ends at ``expires_at`` (unix seconds)."""

    expires_at: int


class Move(_FromServer, frozen=True, tag="move"):
    """Open another connection at some moment within ``within_ms``, and end this one once the other has resumed."""

    within_ms: int


class Error(_FromServer, frozen=True, tag="error"):
    """Something was refused; ``retry``: the same thing may work later, after ``retry_after_ms``."""

    code: str
    message: str
    retry: bool
    retry_after_ms: int | None = None


ServerFrame = Welcome | Snapshot | Update | Heartbeat | AuthRequired | AuthOk | Move | Error

decode_client_frame: Final = msgspec.json.Decoder(ClientFrame).decode
decode_server_frame: Final = msgspec.json.Decoder(ServerFrame).decode
encode: Final = msgspec.json.Encoder().encode

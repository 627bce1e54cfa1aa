"""What every transport gives the connection: frames in order, and an end that says why."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Protocol

import msgspec

from guardwire.address import Address
from guardwire.ending import lost
from guardwire.messages import ClientFrame, ServerFrame, decode_server_frame


class Link(Protocol):
    """One open connection. It raises `LinkEnded` once it has ended, and never another error for the peer's
    doing.
    """

    #: Whether frames can be sent; where not, another channel list, token or snapshot takes a new link.
    in_band: bool

    async def receive(self) -> ServerFrame:
        """The next frame; safe to cancel."""

    async def send(self, frame: ClientFrame) -> None:
        """Send ``frame``; only where `in_band`."""

    def abort(self) -> None:
        """End it at once without a word; a waiting `receive` raises."""

    async def close(self) -> None:
        """End it as the protocol asks, within 2 s, or without."""


class Opening(msgspec.Struct, frozen=True):
    """What a link is opened with."""

    address: Address
    token: str
    #: In the state's order.
    channels: tuple[str, ...]
    #: ``epoch:revision`` held just now, None to get a snapshot.
    position: Callable[[], str | None]
    tls: ssl.SSLContext | None

    @property
    def parameters(self) -> dict[str, str | None]:
        """The query that chooses channels and position."""
        return {"channels": ",".join(self.channels), "since": self.position()}


class _Tag(msgspec.Struct):
    type: str


_decode_tag = msgspec.json.Decoder(_Tag).decode
_KNOWN_TAGS = frozenset(
    {"welcome", "snapshot", "update", "heartbeat", "auth_required", "auth_ok", "move", "error"}
)


def decode(text: str | bytes) -> ServerFrame | None:
    """The frame in ``text``; None for a type that is not known here (servers may grow). Raises LinkEnded for
    no frame.
    """
    try:
        frame: ServerFrame = decode_server_frame(text)
    except msgspec.DecodeError as error:
        try:
            unknown = _decode_tag(text).type not in _KNOWN_TAGS
        except msgspec.DecodeError:
            unknown = False
        if unknown:
            return None
        raise lost(f"the server sent something that is no frame: {error}") from error
    return frame

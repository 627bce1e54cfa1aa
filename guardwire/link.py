"""One open link to the server: where it leads, what it is opened with, and the frames that come over it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final, Literal, Protocol, get_args
from urllib.parse import quote, urlsplit

import msgspec

from guardwire.clock import Instant, elapsed_seconds
from guardwire.endings import Ending, LinkEnded, lost, replaced
from guardwire.messages import (
    ClientFrame,
    Offers,
    ServerFrame,
    Subscribe,
    Unsubscribe,
    Welcome,
    decode_server_frame,
)
from guardwire.state import CHANNELS, ChannelName
from guardwire.timing import Timing

TransportName = Literal["websocket", "sse", "poll"]

#: An account of ten thousand positions is well below this.
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class Address(msgspec.Struct, frozen=True):
    """Where the server is; ``prefix`` is the path that it is mounted under: empty, or ``/…`` without a final slash."""

    secure: bool
    host: str
    port: int
    prefix: str

    @property
    def authority(self) -> str:
        """Host and port, as the ``Host`` header writes them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def websocket_url(self, **parameters: str | None) -> str:
        """The URL of the WebSocket."""
        return f"{'wss' if self.secure else 'ws'}://{self.authority}{self.path('/ws', **parameters)}"

    def path(self, route: str, **parameters: str | None) -> str:
        """Path and query of ``route`` on this server; parameters that are None are left out."""
        query = "&".join(
            f"{name}={quote(value, safe=',:')}" for name, value in parameters.items() if value is not None
        )
        return f"{self.prefix}{route}{'?' if query else ''}{query}"


def parse_address(url: str) -> Address:
    """The address in ``url``: ``ws``, ``wss``, ``http`` or ``https``, with or without ``/ws`` at its end.

    Raises ValueError for any other URL. A query and credentials are refused, because a token belongs in a header and
    URLs are logged.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("the URL must start with ws://, wss://, http:// or https:// and name a host")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("the URL may carry no query, fragment or credentials; pass the token as token=")
    prefix = parts.path.rstrip("/").removesuffix("/ws")
    port = parts.port or _PORTS[parts.scheme]
    return Address(parts.scheme in ("wss", "https"), parts.hostname, port, prefix)


class Opening(msgspec.Struct, frozen=True):
    """The values that a transport is opened with."""

    address: Address
    token: str
    #: In the order of `CHANNELS`.
    channels: tuple[ChannelName, ...]
    #: Gives ``epoch:revision`` of the state that is held when it is called, None to get a snapshot.
    resume_point: Callable[[], str | None]
    tls: ssl.SSLContext | None
    timing: Timing


class Transport(Protocol):
    """Frames over one connection. Every call raises `LinkEnded` once the connection has ended."""

    #: Whether frames can be sent. Where not, new channels, a new token or a snapshot take a new link.
    is_in_band: bool

    async def receive(self) -> ServerFrame:
        """The next frame; may be cancelled without losing one."""

    async def send(self, frame: ClientFrame) -> None:
        """Send ``frame``; only where `is_in_band`."""

    def abort(self) -> None:
        """Cut the connection at once; a pending `receive` raises."""

    async def close(self) -> None:
        """Close the connection as the protocol asks, or cut it after 2 s."""


class Link:
    """A transport in use: the channels that the server knows of, when frames came, and how this side ended it."""

    def __init__(
        self,
        name: TransportName,
        transport: Transport,
        opening: Opening,
        now: Instant,
        *,
        first_frame: ServerFrame | None = None,
    ) -> None:
        """``first_frame`` is a frame that was read from ``transport`` already, None for none."""
        self.name = name
        self.is_in_band = transport.is_in_band
        self._transport = transport
        self._channels = opening.channels
        self._timing = opening.timing
        self._silence_seconds = opening.timing.silence_seconds
        self._pending_frame = first_frame
        self._last_frame_at = now
        self._first_frame_at: Instant | None = None
        self._ended_with: Ending | None = None
        self._is_replaced = False
        #: The channels and frames that the server takes beyond release 0.1.0; None before its welcome, and for 0.1.0.
        self.offers: Offers | None = None

    @property
    def has_frames(self) -> bool:
        """Whether a frame came through."""
        return self._first_frame_at is not None

    @property
    def is_resumed(self) -> bool:
        """Whether the first frame, which was read before the link was made, says that the server resumed the client."""
        return isinstance(self._pending_frame, Welcome) and self._pending_frame.resumed

    @property
    def is_replaced(self) -> bool:
        """Whether this side ended the link with `replace`."""
        return self._is_replaced

    async def receive(self) -> ServerFrame:
        """The next frame; raises `LinkEnded`, with this side's reason where this side ended the link."""
        self._check()
        if self._pending_frame is not None:
            frame, self._pending_frame = self._pending_frame, None
            return frame
        try:
            frame = await self._transport.receive()
        except LinkEnded:
            self._check()
            raise
        # A frame that was still in a buffer when the link was cut is dropped.
        self._check()
        return frame

    async def send(self, frame: ClientFrame) -> None:
        """Send ``frame``; only where `is_in_band`."""
        await self._transport.send(frame)

    async def send_channels(self, read_wanted: Callable[[], tuple[ChannelName, ...]]) -> None:
        """Send the server the difference between the channels that it knows of and the wanted ones.

        ``read_wanted`` is called again after each frame, because the caller may change its mind meanwhile.
        """
        while (wanted := read_wanted()) != self._channels:
            known, self._channels = self._channels, wanted
            if added := _without(wanted, known):
                await self._transport.send(Subscribe(added))
            if dropped := _without(known, wanted):
                await self._transport.send(Unsubscribe(dropped))

    def serves(self, channels: tuple[ChannelName, ...]) -> bool:
        """Whether the server knows of exactly these channels."""
        return self._channels == channels

    def note_frame(self, frame: ServerFrame, now: Instant) -> None:
        """Note that ``frame`` came ``now``."""
        self._first_frame_at = self._first_frame_at or now
        self._last_frame_at = now
        if isinstance(frame, Welcome):
            self._silence_seconds = self._timing.silence_limit_seconds(frame.heartbeat_seconds)
            self.offers = frame.offers

    def takes(self, frame_type: str) -> bool:
        """Whether frames of this type, which is younger than the first release, may be sent over it."""
        return self.is_in_band and self.offers is not None and frame_type in self.offers.frames

    def lived_seconds(self, now: Instant) -> float | None:
        """Seconds since the first frame; None when none came."""
        return None if self._first_frame_at is None else elapsed_seconds(self._first_frame_at, now)

    def find_silence(self, now: Instant) -> Ending | None:
        """The ending of a link that looks open and brings nothing; None while it may be good."""
        silent_seconds = elapsed_seconds(self._last_frame_at, now)
        if self._first_frame_at is None:
            is_late = silent_seconds >= self._timing.first_frame_seconds
            return lost("no first frame in time").ending if is_late else None
        is_silent = silent_seconds >= self._silence_seconds
        return lost(f"no frame came for {self._silence_seconds:g} s").ending if is_silent else None

    def replace(self) -> None:
        """End the link, so that another one takes its place at once."""
        self._is_replaced = True
        self.end(replaced().ending)

    def end(self, ending: Ending) -> None:
        """End the link as if it had ended with ``ending`` by itself."""
        self._ended_with = self._ended_with or ending
        self._transport.abort()

    def abort(self) -> None:
        """Cut the connection at once; `receive` raises the ending that the transport reports."""
        self._transport.abort()

    async def close(self) -> None:
        """Close the connection as the protocol asks."""
        await self._transport.close()

    def _check(self) -> None:
        if self._ended_with is not None:
            raise LinkEnded(self._ended_with)


def _without(channels: tuple[ChannelName, ...], others: tuple[ChannelName, ...]) -> tuple[ChannelName, ...]:
    return tuple(channel for channel in CHANNELS if channel in channels and channel not in others)


class _Tag(msgspec.Struct):
    type: str


_decode_tag = msgspec.json.Decoder(_Tag).decode
_KNOWN_TAGS = frozenset(str(frame.__struct_config__.tag) for frame in get_args(ServerFrame))


def decode_frame(text: str | bytes) -> ServerFrame | None:
    """The frame in ``text``; None for a type that this release does not know, because servers may add types.

    Raises LinkEnded for anything that is no frame.
    """
    try:
        frame: ServerFrame = decode_server_frame(text)
    except msgspec.DecodeError as error:
        try:
            is_unknown = _decode_tag(text).type not in _KNOWN_TAGS
        except msgspec.DecodeError:
            is_unknown = False
        if is_unknown:
            return None
        raise lost(f"the server sent something that is no frame: {error}") from error
    return frame

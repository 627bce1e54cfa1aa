"""One WebSocket after its handshake: a small protocol between the transport, the library's parser and a
session.

Framing, fragmentation limits, UTF-8 checks and the closing handshake are the `websockets` library's; this
file decides when to write. Nothing is queued: when the transport cannot take more, the next frame is made
when it can.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from typing import Final, Protocol

import msgspec
from websockets.frames import CloseCode as Own
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from auth.identity import Identity
from realtime.delivery.buffers import keep_buffers_small
from realtime.delivery.hints import retry_after_ms as jittered_ms
from realtime.delivery.session import Session
from realtime.delivery.watch import Watch
from realtime.errors import CloseCode, StreamClosed
from realtime.messages import ClientFrame, decode_client_frame
from realtime.metrics import METRICS
from realtime.owners import WrongOwner
from realtime.store.snapshot import Channels, Snapshot

log = logging.getLogger(__name__)

_CLOSE_SECONDS: Final = 5.0
#: RFC 6455, 5.5: a control frame carries 125 bytes, two of which are the code.
_REASON_BYTES: Final = 123
#: Pings, pongs and fragments that a peer may send for each message that it may send.
CONTROL_PER_MESSAGE: Final = 10
#: A frame from here on is written beside its head, not joined to it.
_SHARED_BYTES: Final = 32_768
#: What is parsed before anybody looks whether it was too much: a small frame costs 10 µs, and 256 KB of them
#: would hold up everybody else for half a second.
_SLICE_BYTES: Final = 2048
#: After the last word what still comes is read and thrown away, so slowly that it costs nothing.
_DISCARD_BYTES: Final = 4096
_DISCARD_PAUSE_SECONDS: Final = 0.02
_PONG: Final = 0x80 | Opcode.PONG


class Conversation(Protocol):
    """What a socket tells its owner (`websocket.py`), which does what may have to wait."""

    def on_frame(self, socket: Socket, frame: ClientFrame) -> None:
        """A well-formed frame arrived."""

    def on_gone(self, socket: Socket) -> None:
        """The connection is lost; called exactly once."""


class Socket(asyncio.Protocol):
    """The rim of one client: bytes in, decoded frames to its conversation; snapshots in, bytes out.

    ``identity``, ``session`` and ``watch`` are None until the client has said who it is. Times are monotonic
    seconds. ``greeted``: a hello came. ``warned``: the client was told that its token is about to expire.
    ``choice``: channels that a hello chose before the session began. ``address``: where it comes from, while
    it counts as a stranger's.
    """

    __slots__ = (
        "_control_left", "_fragments", "_frames_left", "_parser", "address", "blocked_since", "choice",
        "closing_since", "conversation", "greeted", "heard_at", "identity", "lease", "opened_at", "sent_at",
        "session", "session_number", "transport", "warned", "watch",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        parser: ServerProtocol,
        conversation: Conversation,
        *,
        frames_per_second: int,
    ) -> None:
        self.transport = transport
        self.conversation = conversation
        self.session: Session | None = None
        self.watch: Watch | None = None
        self.identity: Identity | None = None
        self.lease: str | None = None
        self.greeted = self.warned = False
        self.choice: Channels | None = None
        self.address: str | None = None
        self.opened_at = self.heard_at = self.sent_at = time.monotonic()
        self.blocked_since: float | None = None
        self.closing_since: float | None = None
        self.session_number = secrets.randbits(64)
        self._parser = parser
        self._fragments = b""
        self._frames_left = frames_per_second
        self._control_left = frames_per_second * CONTROL_PER_MESSAGE
        keep_buffers_small(transport)

    @property
    def session_id(self) -> str:
        """What the welcome calls this session, and what its log lines carry."""
        return f"{self.session_number:016x}"

    def has_ended(self) -> bool:
        """Whether nothing more will be sent."""
        return self.closing_since is not None

    # The hub's side.

    def wake(self, newest: Snapshot, now: float) -> None:
        """Send what turns the client's state into ``newest``, unless the client cannot take it now."""
        if self.blocked_since is not None or self.session is None or self.session.held is None:
            return
        assert self.watch is not None
        try:
            payload = self.session.update(newest, self.watch.freshness(now))
        except WrongOwner:
            self.close(CloseCode.OVERLOADED, "please reconnect", retry_after_ms=jittered_ms(1000, 5000))
            return
        if payload is not None:
            METRICS.updates.add(1, "update")
            self.send(payload, now)

    def beat(self, now: float, *, stale: bool) -> None:
        """Send a heartbeat, unless the client cannot take it now."""
        if self.blocked_since is None and self.session is not None and self.session.held is not None:
            assert self.watch is not None
            METRICS.updates.add(1, "heartbeat")
            self.send(self.session.heartbeat(self.watch.freshness(now), stale=stale), now)

    def send(self, payload: bytes, now: float) -> None:
        """Write one text frame; the caller has checked that the client can take it, or it is the answer to a
        frame.
        """
        if self.closing_since is None:
            self.sent_at = now
            if len(payload) < _SHARED_BYTES:
                self.transport.write(_text_frame(payload))
            else:
                # Not joined: all sockets that wait with this frame hold the same bytes.
                self.transport.writelines((_long_head(len(payload)), payload))

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self.closing_since is None and self.blocked_since is None:
            self._parser.send_ping(b"")
            self._flush()

    def close(self, code: CloseCode, reason: str, *, retry_after_ms: int | None = None) -> None:
        """Say why and hang up; a peer that does not answer is cut off after a few seconds."""
        if self.closing_since is not None:
            return
        if self._parser.state is not OPEN:
            # The parser has failed over what came after, and said so.
            return
        METRICS.closes.add(1, str(code.value))
        if log.isEnabledFor(logging.DEBUG):
            log.debug("a stream is closed", extra={"session_id": self.session_id, "code": code.value})
        self._parser.send_close(code.value, close_text(reason, retry_after_ms))
        self._flush()
        self._end()

    def abort(self) -> None:
        """Cut the connection without waiting for anybody."""
        if not self.transport.is_closing() or self.blocked_since is not None:
            self.transport.abort()

    def refill(self, frames_per_second: int) -> None:
        """A second has passed: the client may send so many frames again."""
        self._frames_left = frames_per_second
        self._control_left = frames_per_second * CONTROL_PER_MESSAGE

    # The transport's side.

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        start = 0
        while self.closing_since is None and start < len(data):
            self._take(data[start : start + _SLICE_BYTES])
            start += _SLICE_BYTES
        if self.closing_since is None:
            return
        if self._parser.close_rcvd is not None:
            self.transport.close()
        elif len(data) > _DISCARD_BYTES:
            # Unread data would make the kernel cut the connection, and with it the close code on its way.
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(_DISCARD_PAUSE_SECONDS, self._read_on)

    def _take(self, data: bytes) -> None:
        self._parser.receive_data(data)
        try:
            for event in self._parser.events_received():
                if isinstance(event, Frame):
                    self._on_frame(event)
        except StreamClosed as closed:
            hint = jittered_ms(1000, 3000) if closed.close_code is CloseCode.RATE_LIMITED else None
            self.close(closed.close_code, closed.reason, retry_after_ms=hint)
        self._flush()
        if self._parser.parser_exc is not None and self._parser.close_sent is not None:
            METRICS.closes.add(1, str(self._parser.close_sent.code))

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.CONT):
            self._fragments += frame.data
            if frame.fin:
                message, self._fragments = self._fragments, b""
                self._on_message(message)
                return
        elif frame.opcode is Opcode.BINARY:
            raise StreamClosed(CloseCode.MALFORMED, "frames are JSON text, not binary")
        self._control_left -= 1
        if self._control_left < 0:
            raise StreamClosed(CloseCode.RATE_LIMITED, "too many control frames or fragments")

    def _on_message(self, message: bytes) -> None:
        if self.closing_since is not None:
            return
        self._frames_left -= 1
        if self._frames_left < 0:
            raise StreamClosed(CloseCode.RATE_LIMITED, "too many frames")
        try:
            frame = decode_client_frame(message.decode())
        except UnicodeDecodeError:
            METRICS.closes.add(1, str(Own.INVALID_DATA.value))
            self._parser.fail(Own.INVALID_DATA, "text is UTF-8")
            self._flush()
            return
        except (msgspec.MsgspecError, RecursionError) as error:
            raise StreamClosed(CloseCode.MALFORMED, f"malformed frame: {error}") from None
        self.conversation.on_frame(self, frame)

    def eof_received(self) -> bool:
        self._parser.receive_eof()
        self._flush()
        return False

    def pause_writing(self) -> None:
        self.blocked_since = time.monotonic()
        # A peer that reads nothing must not make us answer its pings either.
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.blocked_since = None
        if self.transport.is_closing():
            return
        self.transport.resume_reading()
        if self.watch is not None and self.watch.snapshot is not None:
            self.wake(self.watch.snapshot, time.monotonic())

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing_since = self.closing_since or time.monotonic()
        self.conversation.on_gone(self)

    def _flush(self) -> None:
        pong = None
        for data in self._parser.data_to_send():
            if not data:
                self._end()
            elif data[0] == _PONG:
                pong = data
            elif self.closing_since is None:
                self.transport.write(data)
        # Of several pings that came together the last is answered (RFC 6455, 5.5.3).
        if pong is not None and self.closing_since is None and self.blocked_since is None:
            self.transport.write(pong)

    def _end(self) -> None:
        """After the last word nothing is written or looked at, until the peer hangs up or its time is up."""
        # News may come before the transport tells that the peer is gone, and writing after the end would
        # raise in whoever brings it.
        if self.closing_since is not None:
            return
        self.closing_since = time.monotonic()
        asyncio.get_running_loop().call_later(_CLOSE_SECONDS, self.abort)
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        # A reader that was held back may have its good-bye under way.
        self.transport.resume_reading()


def _text_frame(payload: bytes) -> bytes:
    """``payload`` in one frame; the library's object for it would cost an eighth of a push."""
    length = len(payload)
    if length < 126:
        return b"\x81%c%b" % (length, payload)
    return b"\x81\x7e%b%b" % (length.to_bytes(2, "big"), payload)


def _long_head(length: int) -> bytes:
    if length < 65_536:
        return b"\x81\x7e" + length.to_bytes(2, "big")
    return b"\x81\x7f" + length.to_bytes(8, "big")


def close_text(reason: str, retry_after_ms: int | None) -> str:
    """A close frame's text, at most `_REASON_BYTES` of it; JSON when there is a hint (PROTOCOL.md, "Close
    codes"), which is whole however long the reason.
    """
    hint = "" if retry_after_ms is None else f', "retry_after_ms": {retry_after_ms}}}'
    while True:
        text = f'{{"reason": {json.dumps(reason)}{hint}' if hint else reason
        if len(text.encode()) <= _REASON_BYTES:
            return text
        reason = reason[:-1]

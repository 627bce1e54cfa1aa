"""One WebSocket after its handshake: a small protocol between the transport, a reader of what comes and a
session.

Framing, fragmentation limits, UTF-8 checks and the closing handshake are the `websockets` library's; this
file decides when to write. Nothing is queued: when the transport cannot take more, the next frame is made
when it can.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections.abc import Iterator
from types import GeneratorType
from typing import Final, Protocol

import msgspec
from websockets.frames import CloseCode as Own
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from auth.identity import Identity
from guardwire.errors import CloseCode
from guardwire.messages import ClientFrame, decode_client_frame
from realtime.delivery.connection_log import WEBSOCKET, report_close
from realtime.delivery.stream import Session
from realtime.delivery.stream import retry_after_ms as jittered_ms
from realtime.delivery.watched_account import Watch
from realtime.errors import StreamClosed
from realtime.metrics import METRICS
from realtime.owners import WrongOwner
from realtime.snapshot import Channels, Snapshot

log = logging.getLogger(__name__)

_CLOSE_SECONDS: Final = 5.0
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
        "_allowance", "_frames_per_second", "_max_frame_bytes", "_reader", "address",
        "blocked_since", "choice", "closing_since", "conversation", "greeted", "heard_at", "identity",
        "lease", "opened_at", "sent_at", "session", "session_number", "tick", "transport", "warned", "watch",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        conversation: Conversation,
        *,
        max_frame_bytes: int | None,
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
        self.tick = -1
        self._max_frame_bytes = max_frame_bytes
        self._reader: Reader | None = None
        self._frames_per_second = frames_per_second
        self._allowance: Allowance | None = None

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

    def beat(self, now: float, *, stale: bool, ask: bool = False) -> None:
        """Send a heartbeat, unless the client cannot take it now; ``ask`` for a sign of life in the same
        write.
        """
        if self.blocked_since is None and self.session is not None and self.session.held is not None:
            assert self.watch is not None
            METRICS.updates.add(1, "heartbeat")
            heartbeat = self.session.heartbeat(self.watch.freshness(now), stale=stale)
            self.send(heartbeat, now, after=PING if ask else b"")

    def send(self, payload: bytes, now: float, *, after: bytes = b"") -> None:
        """Write one text frame, behind the frame ``after``; the caller has checked that the client can take
        it, or it is the answer to a frame.
        """
        if self.closing_since is None:
            self.sent_at = now
            if len(payload) < _SHARED_BYTES:
                self.transport.write(after + text_frame(payload))
            else:
                # Not joined: all sockets that wait with this frame hold the same bytes.
                self.transport.writelines((after, text_head(len(payload)), payload))

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self.closing_since is None and self.blocked_since is None:
            self.transport.write(PING)

    def close(self, code: CloseCode, reason: str, *, retry_after_ms: int | None = None) -> None:
        """Say why and hang up; a peer that does not answer is cut off after a few seconds."""
        if self.closing_since is not None:
            return
        parser = self._reading().parser
        if parser.state is not OPEN:
            # The parser has failed over what came after, and said so.
            return
        METRICS.closes.add(1, str(code.value))
        if log.isEnabledFor(logging.DEBUG):
            log.debug("a stream is closed", extra={"session_id": self.session_id, "code": code.value})
        user_id = None if self.identity is None else self.identity.user_id
        report_close(WEBSOCKET, user_id, self.session_id, code.value)
        parser.send_close(code.value, close_text(reason, retry_after_ms))
        self._flush(parser)
        self._end()

    def abort(self) -> None:
        """Cut the connection without waiting for anybody."""
        if not self.transport.is_closing() or self.blocked_since is not None:
            self.transport.abort()

    def rest(self, now: float) -> None:
        """Let go of what is only there for what the client says, unless it is saying something."""
        if self._allowance is not None and self._allowance.is_over(now):
            self._allowance = None
        if self._reader is not None and self.closing_since is None and self._reader.is_at_rest():
            self._reader = None

    # The transport's side.

    def data_received(self, data: bytes) -> None:
        now = self.heard_at = time.monotonic()
        allowance = self._allowed(now)
        # Without a reader this is where a frame begins, and nearly all that idle clients send is this one.
        if self._reader is None and is_answer_to_a_ping(data) and allowance.takes_control():
            return
        start = 0
        while self.closing_since is None and start < len(data):
            self._take(data[start : start + _SLICE_BYTES])
            start += _SLICE_BYTES
        if self.closing_since is None:
            return
        if self._reader is not None and self._reader.parser.close_rcvd is not None:
            self.transport.close()
        elif len(data) > _DISCARD_BYTES:
            # Unread data would make the kernel cut the connection, and with it the close code on its way.
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(_DISCARD_PAUSE_SECONDS, self._read_on)

    def _take(self, data: bytes) -> None:
        reader = self._reading()
        parser = reader.parser
        try:
            for message in reader.messages(data, self._allowed(self.heard_at)):
                self._on_message(message)
        except StreamClosed as closed:
            hint = jittered_ms(1000, 3000) if closed.close_code is CloseCode.RATE_LIMITED else None
            self.close(closed.close_code, closed.reason, retry_after_ms=hint)
        self._flush(parser)
        if parser.parser_exc is not None and parser.close_sent is not None:
            METRICS.closes.add(1, str(parser.close_sent.code))

    def _allowed(self, now: float) -> Allowance:
        if self._allowance is None or self._allowance.is_over(now):
            self._allowance = Allowance(self._frames_per_second, now)
        return self._allowance

    def _reading(self) -> Reader:
        if self._reader is None:
            self._reader = Reader(self._max_frame_bytes)
        return self._reader

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _on_message(self, message: bytes) -> None:
        if self.closing_since is not None:
            return
        try:
            frame = decode_client_frame(message.decode())
        except UnicodeDecodeError:
            METRICS.closes.add(1, str(Own.INVALID_DATA.value))
            parser = self._reading().parser
            parser.fail(Own.INVALID_DATA, "text is UTF-8")
            self._flush(parser)
            return
        except (msgspec.MsgspecError, RecursionError) as error:
            raise StreamClosed(CloseCode.MALFORMED, f"malformed frame: {error}") from None
        self.conversation.on_frame(self, frame)

    def eof_received(self) -> bool:
        parser = self._reading().parser
        parser.receive_eof()
        self._flush(parser)
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

    def _flush(self, parser: ServerProtocol) -> None:
        pong = None
        for data in parser.data_to_send():
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
            # Of a peer that has cut the line, the transport may be the last to hear.
            with contextlib.suppress(OSError):
                self.transport.write_eof()
        # A reader that was held back may have its good-bye under way.
        self.transport.resume_reading()


#: Where the handshake's parser writes, too; nothing below a warning is heard of it.
_LOG: Final = logging.getLogger("uvicorn.error")
_BETWEEN_FRAMES: Final = StreamReader.at_eof.__code__


class Reader:
    """Reads from the beginning of a frame, messages of ``max_bytes`` at most; None for any size.

    ``parser`` is open as long as nothing was wrong, and holds what is to be written in answer.
    """

    __slots__ = ("_fragments", "parser")

    def __init__(self, max_bytes: int | None) -> None:
        self.parser = ServerProtocol(state=OPEN, max_size=max_bytes, logger=_LOG)
        self._fragments = b""

    def messages(self, data: bytes, allowance: Allowance) -> Iterator[bytes]:
        """The messages that ``data`` makes whole; raises StreamClosed over those that may not be sent."""
        self.parser.receive_data(data)
        for event in self.parser.events_received():
            if not isinstance(event, Frame):
                continue
            if event.opcode is Opcode.BINARY:
                raise StreamClosed(CloseCode.MALFORMED, "frames are JSON text, not binary")
            if event.opcode in (Opcode.TEXT, Opcode.CONT):
                self._fragments += event.data
                if event.fin:
                    if not allowance.takes_message():
                        raise StreamClosed(CloseCode.RATE_LIMITED, "too many frames")
                    message, self._fragments = self._fragments, b""
                    yield message
                    continue
            if not allowance.takes_control():
                raise StreamClosed(CloseCode.RATE_LIMITED, "too many control frames or fragments")

    def is_at_rest(self) -> bool:
        """Whether it holds nothing of a frame or a message, and the connection is open as far as it knows."""
        parser = self.parser
        return (
            parser.state is OPEN
            and parser.current_size is None
            and not (parser.events or parser.writes or parser.reader.buffer or parser.reader.eof)
            and _waits_for_a_frame(parser.parser)
        )


def _waits_for_a_frame(generator: object) -> bool:
    """Where ``generator`` stands; the buffer alone does not tell, for the head of a frame leaves it first."""
    while isinstance(generator, GeneratorType):
        if generator.gi_code is _BETWEEN_FRAMES:
            return True
        generator = generator.gi_yieldfrom
    return False


#: A control frame carries 125 bytes, two of which are the code (RFC 6455, 5.5).
_REASON_BYTES: Final = 123
#: Asks for a sign of life.
PING: Final = b"\x89\x00"
#: The head of a whole, masked frame of no bytes.
_EMPTY_PONG: Final = b"\x8a\x80"
_EMPTY_PONG_BYTES: Final = 6


def text_frame(payload: bytes) -> bytes:
    """``payload``, of less than 65,536 bytes, in one frame."""
    length = len(payload)
    if length < 126:
        return b"\x81%c%b" % (length, payload)
    return b"\x81\x7e%b%b" % (length.to_bytes(2, "big"), payload)


def text_head(length: int) -> bytes:
    """What stands before a payload of at least 126 bytes."""
    if length < 65_536:
        return b"\x81\x7e" + length.to_bytes(2, "big")
    return b"\x81\x7f" + length.to_bytes(8, "big")


def is_answer_to_a_ping(data: bytes) -> bool:
    """Whether ``data``, from where a frame begins, is the whole answer to a `PING`, and nothing else."""
    return len(data) == _EMPTY_PONG_BYTES and data.startswith(_EMPTY_PONG)


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


#: Pings, pongs and fragments that a peer may send for each message that it may send.
CONTROL_PER_MESSAGE: Final = 10
_SECONDS: Final = 1.0


class Allowance:
    """That of one second, from ``now`` on; the next second has another."""

    __slots__ = ("_control_left", "_frames_left", "_until")

    def __init__(self, frames_per_second: int, now: float) -> None:
        self._frames_left = frames_per_second
        self._control_left = frames_per_second * CONTROL_PER_MESSAGE
        self._until = now + _SECONDS

    def is_over(self, now: float) -> bool:
        """Whether its second has passed (monotonic seconds)."""
        return now >= self._until

    def takes_message(self) -> bool:
        """Whether there was one left, and now there is one less."""
        self._frames_left -= 1
        return self._frames_left >= 0

    def takes_control(self) -> bool:
        """The same of pings, pongs and fragments."""
        self._control_left -= 1
        return self._control_left >= 0

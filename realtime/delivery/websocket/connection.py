"""One WebSocket after its handshake. `Socket` decodes frames for its stream and writes the stream's outputs.

It decides nothing itself: that is the stream's part (`realtime/delivery/stream.py`). Framing,
limits of fragments, UTF-8 checks and the closing handshake are the work of the `websockets` library. Nothing is queued:
when the transport cannot take more, the next frame is made when it can.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec
from websockets.frames import CloseCode as LibraryCode
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from auth.identity import Identity
from auth.refusals import Reason
from guardwire.errors import CloseCode
from guardwire.messages import ClientFrame, decode_client_frame
from realtime.delivery.connection_log import WEBSOCKET, report_close
from realtime.delivery.sent_state import Frame, count
from realtime.delivery.stream import (
    Close,
    Outputs,
    Perform,
    Ping,
    Stream,
    Verify,
    close_after,
    retry_after_ms,
)
from realtime.delivery.watched_account import NEVER_READ, WatchedAccount
from realtime.errors import StreamClosed
from realtime.metrics import METRICS
from realtime.snapshot import Freshness, Snapshot

log = logging.getLogger(__name__)

_CLOSE_SECONDS: Final = 5.0
#: A frame from here on is written beside its head, not joined to it.
_SHARED_BYTES: Final = 32_768
#: The parser gets this many bytes before the rate is checked. A small frame costs 10 µs, and 256 KB of them would hold
#: up all other clients for half a second.
_SLICE_BYTES: Final = 2048
#: After the close frame, what still comes is read and thrown away, so slowly that it costs nothing.
_DISCARD_BYTES: Final = 4096
_DISCARD_PAUSE_SECONDS: Final = 0.02
_PONG: Final = 0x80 | Opcode.PONG
#: The parser of the handshake writes there, too; only warnings and errors of it are logged.
_LIBRARY_LOG: Final = logging.getLogger("uvicorn.error")
#: Bytes of a longer length, by the code that stands in its place (RFC 6455, 5.2).
_LENGTH_BYTES: Final = {126: 2, 127: 8}


class Callbacks(NamedTuple):
    """The owner's part of a socket: ``on_verify`` is called with a token that the stream wants verified, ``on_perform``
    with a frame that the stream wants performed, ``on_gone`` exactly once, when the connection is lost.
    """

    on_verify: Callable[[Socket, Verify], None]
    on_perform: Callable[[Socket, Perform], None]
    on_gone: Callable[[Socket], None]


class Socket(asyncio.Protocol):
    """The transport of one client. Times are monotonic seconds.

    ``account`` is None until the client has said who it is.
    """

    __slots__ = (
        "_address", "_allowance", "_callbacks", "_frames_per_second", "_lease", "_max_frame_bytes", "_reader",
        "account", "closing_since", "opened_at", "stream", "transport",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        stream: Stream,
        *,
        callbacks: Callbacks,
        max_frame_bytes: int | None,
        frames_per_second: int,
    ) -> None:
        self.transport = transport
        self.stream = stream
        self.account: WatchedAccount | None = None
        self.opened_at = stream.heard_at
        self.closing_since: float | None = None
        self._callbacks = callbacks
        self._lease: str | None = None
        self._address: str | None = None
        self._max_frame_bytes = max_frame_bytes
        self._reader: Reader | None = None
        self._frames_per_second = frames_per_second
        self._allowance: Allowance | None = None

    def has_ended(self) -> bool:
        """Whether nothing more will be sent."""
        return self.closing_since is not None

    @property
    def may_move(self) -> bool:
        """Whether the client can be asked to move to another node now."""
        return self.stream.may_move

    # How the socket is counted.

    def count_as_anonymous(self, address: str) -> None:
        """The socket has no user, and was counted as one from ``address``."""
        self._address = address

    def take_address(self) -> str | None:
        """The address for which the socket is still counted as anonymous; it is counted no longer."""
        address, self._address = self._address, None
        return address

    def admit(self, lease: str) -> None:
        """The socket counts as one of its user's connections, by ``lease``."""
        self._lease = lease

    def take_lease(self) -> str | None:
        """The lease of the connection, which is given back."""
        lease, self._lease = self._lease, None
        return lease

    def watch(self, account: WatchedAccount) -> None:
        """The socket is subscribed to ``account``."""
        self.account = account

    def leave_account(self) -> WatchedAccount | None:
        """The account that the socket was subscribed to, which it keeps no longer."""
        account, self.account = self.account, None
        return account

    # The hub's side.

    def wake(self, newest: Snapshot, fresh: Freshness, now: float) -> None:
        """A newer snapshot is there."""
        self.perform(self.stream.newer(newest, fresh, now))

    def mark_stale(self, now: float, *, stale: bool) -> None:
        """The account became stale, or is stale no longer."""
        self.perform(self.stream.stale(stale, self._freshness(now), now))

    # The timer's side.

    def look(self, now: float, wall: float, recheck: Callable[[Identity], Reason | None]) -> None:
        """Perform the stream's outputs that are due, and release the parser of a quiet client. ``recheck`` gives the
        reason for which an identity holds no longer, else None.
        """
        self._release_reader(now)
        identity = self.stream.identity
        reason = None if identity is None else recheck(identity)
        if reason is None:
            self.perform(self.stream.tick(now, wall, self._freshness(now)))
        else:
            self.perform(self.stream.revoked(reason))

    def drain(self) -> None:
        """Say goodbye, unless the stream has ended."""
        self.perform(self.stream.draining(retry_after_ms(CloseCode.DRAINING)))

    # The stream's outputs.

    def perform(self, outputs: Outputs) -> None:
        """Perform ``outputs`` in order; frames that follow one another are one write."""
        if not outputs:
            return
        data: list[bytes] = []
        for output in outputs:
            if isinstance(output, Frame):
                count(output)
                data += _encoded(output.payload)
            elif isinstance(output, Ping):
                data.append(PING)
            elif isinstance(output, Verify):
                self._callbacks.on_verify(self, output)
            elif isinstance(output, Perform):
                self._callbacks.on_perform(self, output)
            else:
                self._write(data)
                data = []
                self._close(output)
        self._write(data)

    def _write(self, data: list[bytes]) -> None:
        if not data or self.closing_since is not None:
            return
        if len(data) == 1:
            self.transport.write(data[0])
        else:
            self.transport.writelines(data)

    def _close(self, last: Close) -> None:
        """Say why and hang up; a peer that does not answer is cut off after a few seconds."""
        parser = self._reading().parser
        if self.closing_since is None and parser.state is OPEN:
            METRICS.closes.add(1, str(last.code.value))
            identity, session_id = self.stream.identity, self.stream.session_id
            if log.isEnabledFor(logging.DEBUG):
                log.debug("a stream is closed", extra={"session_id": session_id, "code": last.code.value})
            report_close(
                WEBSOCKET, None if identity is None else identity.user_id, session_id, last.code.value
            )
            parser.send_close(last.code.value, close_text(last.reason, last.retry_after_ms))
            self._flush(parser)
            self._end()
        if last.cuts:
            self.abort()

    def abort(self) -> None:
        """Cut the connection without waiting for the peer."""
        if not self.transport.is_closing() or self.stream.blocked_since is not None:
            self.transport.abort()

    def _freshness(self, now: float) -> Freshness:
        return NEVER_READ if self.account is None else self.account.freshness(now)

    def _release_reader(self, now: float) -> None:
        """Release the parser and the allowance, unless the client is saying something."""
        if self._allowance is not None and self._allowance.is_over(now):
            self._allowance = None
        if self._reader is not None and self.closing_since is None and self._reader.is_at_rest():
            self._reader = None

    # The transport's side.

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self.stream.hear(now)
        allowance = self._allowed(now)
        # Without a reader this is where a frame begins, and nearly all that idle clients send is this one.
        if self._reader is None and is_answer_to_a_ping(data) and allowance.takes_control():
            return
        start = 0
        while self.closing_since is None and start < len(data):
            self._take(data[start : start + _SLICE_BYTES], now)
            start += _SLICE_BYTES
        if self.closing_since is None:
            return
        if self._reader is not None and self._reader.parser.close_rcvd is not None:
            self.transport.close()
        elif len(data) > _DISCARD_BYTES:
            # Unread data would make the kernel cut the connection, and with it the close code on its way.
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(_DISCARD_PAUSE_SECONDS, self._read_on)

    def _take(self, data: bytes, now: float) -> None:
        reader = self._reading()
        parser = reader.parser
        try:
            for message in reader.messages(data, self._allowed(now)):
                self._on_message(message, now)
        except StreamClosed as closed:
            self.perform(self.stream.close(close_after(closed)))
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

    def _on_message(self, message: bytes, now: float) -> None:
        if self.closing_since is not None:
            return
        try:
            text = message.decode()
        except UnicodeDecodeError:
            METRICS.closes.add(1, str(LibraryCode.INVALID_DATA.value))
            parser = self._reading().parser
            parser.fail(LibraryCode.INVALID_DATA, "text is UTF-8")
            self._flush(parser)
            return
        if self.account is not None:
            self.account.touch(now)
        self.take_text(text, now)

    def take_text(self, text: str, now: float) -> None:
        """Answer a message of the client; raises StreamClosed for one that is malformed."""
        try:
            frame = decode_client_frame(text)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise StreamClosed(CloseCode.MALFORMED, f"malformed frame: {error}") from None
        self.hear(frame, now)

    def hear(self, frame: ClientFrame, now: float) -> None:
        """Have the stream answer ``frame``."""
        newest = None if self.account is None else self.account.snapshot
        self.perform(self.stream.client_frame(frame, newest, self._freshness(now), now))

    def eof_received(self) -> bool:
        parser = self._reading().parser
        parser.receive_eof()
        self._flush(parser)
        return False

    def pause_writing(self) -> None:
        self.stream.block(time.monotonic())
        # A peer that reads nothing must not make us answer its pings either.
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        now = time.monotonic()
        newest = None if self.account is None else self.account.snapshot
        outputs = self.stream.unblock(newest, self._freshness(now), now)
        if self.transport.is_closing():
            return
        self.transport.resume_reading()
        self.perform(outputs)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing_since = self.closing_since or time.monotonic()
        self.stream.end()
        self._callbacks.on_gone(self)

    def _flush(self, parser: ServerProtocol) -> None:
        pong = None
        for data in parser.data_to_send():
            if not data:
                self._end()
            elif data[0] == _PONG:
                pong = data
            elif self.closing_since is None:
                self.transport.write(data)
        # Several pings that came together get one answer, to the last of them (RFC 6455, 5.5.3).
        if pong is not None and self.closing_since is None and self.stream.blocked_since is None:
            self.transport.write(pong)

    def _end(self) -> None:
        """After the close frame nothing is written or parsed, until the peer hangs up or its time is up."""
        # A snapshot may come before the transport reports that the peer is gone, and a write after the end would raise
        # in the hub.
        if self.closing_since is not None:
            return
        self.closing_since = time.monotonic()
        self.stream.end()
        asyncio.get_running_loop().call_later(_CLOSE_SECONDS, self.abort)
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            # The peer may have closed the connection without the transport having noticed it yet.
            with contextlib.suppress(OSError):
                self.transport.write_eof()
        # A reader that was held back may have its close frame under way.
        self.transport.resume_reading()


class Reader:
    """The library's parser and the beginning of a message, while a client is saying something.

    It reads from the beginning of a frame, messages of ``max_bytes`` at most; None for any size. ``parser`` is open as
    long as nothing was wrong, and holds what is to be written in answer. Between two frames a parser knows nothing but
    that the connection is open, which is what a new one knows; so a socket releases its reader there.
    """

    __slots__ = ("_fragments", "_frame_ends", "parser")

    def __init__(self, max_bytes: int | None) -> None:
        self.parser = ServerProtocol(state=OPEN, max_size=max_bytes, logger=_LIBRARY_LOG)
        self._fragments: bytes | None = None
        self._frame_ends = FrameEnds()

    def messages(self, data: bytes, allowance: Allowance) -> Iterator[bytes]:
        """The messages that ``data`` completes; raises StreamClosed over those that may not be sent."""
        self._frame_ends.take(data)
        self.parser.receive_data(data)
        for event in self.parser.events_received():
            if not isinstance(event, WireFrame):
                continue
            if event.opcode is Opcode.BINARY:
                raise StreamClosed(CloseCode.MALFORMED, "frames are JSON text, not binary")
            if event.opcode in (Opcode.TEXT, Opcode.CONT):
                self._fragments = (self._fragments or b"") + event.data
                if event.fin:
                    if not allowance.takes_message():
                        raise StreamClosed(CloseCode.RATE_LIMITED, "too many frames")
                    message, self._fragments = self._fragments, None
                    yield message
                    continue
            if not allowance.takes_control():
                raise StreamClosed(CloseCode.RATE_LIMITED, "too many control frames or fragments")

    def is_at_rest(self) -> bool:
        """Whether the client is between two messages, and the connection is open as far as the parser knows."""
        return self.parser.state is OPEN and self._fragments is None and self._frame_ends.is_between_frames


class FrameEnds:
    """Finds where the frames of a client end (RFC 6455, 5.2). The parser knows it too, and has no way to ask."""

    __slots__ = ("_head", "_payload_left")

    def __init__(self) -> None:
        self._head = b""
        self._payload_left = 0

    @property
    def is_between_frames(self) -> bool:
        """Whether the last byte was the end of a frame, or none came."""
        return not self._head and not self._payload_left

    def take(self, data: bytes) -> None:
        """Follow the heads and payloads of ``data``, the next bytes of the client."""
        start = 0
        while start < len(data):
            if self._payload_left:
                skipped = min(self._payload_left, len(data) - start)
                self._payload_left -= skipped
                start += skipped
                continue
            missing = _head_bytes(self._head) - len(self._head)
            self._head += data[start : start + missing]
            start += missing
            if len(self._head) == _head_bytes(self._head):
                self._payload_left = _payload_bytes(self._head)
                self._head = b""


def _head_bytes(head: bytes) -> int:
    """The length of the head that begins with ``head``; 2 until its second byte is known."""
    if len(head) < 2:
        return 2
    mask_bytes = 4 if head[1] & 0x80 else 0
    return 2 + _LENGTH_BYTES.get(head[1] & 0x7F, 0) + mask_bytes


def _payload_bytes(head: bytes) -> int:
    """The length of the payload that follows the whole ``head``."""
    length_bytes = _LENGTH_BYTES.get(head[1] & 0x7F, 0)
    return int.from_bytes(head[2 : 2 + length_bytes], "big") if length_bytes else head[1] & 0x7F


#: A control frame carries 125 bytes, two of which are the code (RFC 6455, 5.5).
_REASON_BYTES: Final = 123
#: A ping without a payload.
PING: Final = b"\x89\x00"
#: The head of a whole, masked frame of no bytes.
_EMPTY_PONG: Final = b"\x8a\x80"
_EMPTY_PONG_BYTES: Final = 6


def _encoded(payload: bytes) -> list[bytes]:
    if len(payload) < _SHARED_BYTES:
        return [text_frame(payload)]
    # Not joined: all sockets that wait with this frame hold the same bytes.
    return [text_head(len(payload)), payload]


def text_frame(payload: bytes) -> bytes:
    """A text frame with ``payload``, which has less than 65,536 bytes."""
    length = len(payload)
    if length < 126:
        return b"\x81%c%b" % (length, payload)
    return b"\x81\x7e%b%b" % (length.to_bytes(2, "big"), payload)


def text_head(length: int) -> bytes:
    """The head of a text frame with a payload of at least 126 bytes."""
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
_ALLOWANCE_SECONDS: Final = 1.0


class Allowance:
    """The frames that a client may send within one second, from ``now`` on; the next second has an allowance of its
    own.
    """

    __slots__ = ("_control_left", "_frames_left", "_until")

    def __init__(self, frames_per_second: int, now: float) -> None:
        self._frames_left = frames_per_second
        self._control_left = frames_per_second * CONTROL_PER_MESSAGE
        self._until = now + _ALLOWANCE_SECONDS

    def is_over(self, now: float) -> bool:
        """Whether its second has passed (monotonic seconds)."""
        return now >= self._until

    def takes_message(self) -> bool:
        """Take one message from the allowance; False when none was left."""
        self._frames_left -= 1
        return self._frames_left >= 0

    def takes_control(self) -> bool:
        """Take one ping, pong or fragment from the allowance; False when none was left."""
        self._control_left -= 1
        return self._control_left >= 0

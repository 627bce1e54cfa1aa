"""One request and its answer: uvicorn's cycle, but an answer that says its length is one write.

uvicorn writes a head when the application starts to answer and the body when that follows, which are two
calls of the kernel, and it checks and joins one header after the other. Here a head that says how long its
body is waits for the body, as ASGI allows, and its headers are checked all at once. A head without a length
begins a stream and is sent as uvicorn does it, at once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

#: To copy a longer body behind its head would cost more than one write saves.
_JOINED_BYTES: Final = 32_768
#: These headers change how an answer is framed. No route of ours sends them, and uvicorn handles them.
_FRAMING: Final = frozenset({b"connection", b"transfer-encoding"})
_WITHOUT_BODY: Final = frozenset({204, 304})
#: Control characters that no line may hold: a value may have a tab and no other (RFC 9110, 5.5).
_CONTROLS: Final = bytes({*range(32), 127} - {9})
#: The characters of a header's name (RFC 9110, 5.6.2), in lower case as ASGI wants it.
_IN_NAMES: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"


class RequestCycle(RequestResponseCycle):
    """uvicorn's cycle, but an answer that says its length is one write."""

    _head: bytes | None = None
    # Whether the answer is a stream whose end is the end of the connection, because HTTP/1.0 has no chunks.
    _ends_by_close = False

    async def send(self, message: Any) -> None:
        """ASGI's ``send``."""
        head, self._head = self._head, None
        if head is None:
            if self.response_started or not self._hold(message):
                await self._stream(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        body: bytes = message.get("body", b"")
        if message.get("more_body", False) or len(body) > _JOINED_BYTES:
            self.waiting_for_100_continue = False
            self.transport.write(head)
            await super().send(message)
        else:
            self._answer(head, body)

    async def _stream(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._ends_by_close = self.scope["http_version"] == "1.0"
            if self._ends_by_close:
                self.chunked_encoding = False
        elif self._ends_by_close:
            # uvicorn counts down from a promised length, and this answer promised none.
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)

    def abandon(self) -> None:
        """End the cycle without an answer: its request turned out to be malformed, and its route need not go on."""
        self.disconnected = self.response_complete = True
        self.message_event.set()

    def _hold(self, start: Any) -> bool:
        """Make the head of an answer that says its length; False for an answer that uvicorn is to send.

        Raises RuntimeError for a header that cannot be one.
        """
        if start["type"] != "http.response.start":
            return False
        headers = [*self.default_headers, *start.get("headers", ())]
        named = dict(headers)
        length = named.get(b"content-length", b"0" if start["status"] in _WITHOUT_BODY else None)
        if length is None or not _FRAMING.isdisjoint(named):
            return False
        self.response_started = True
        self.chunked_encoding, self.expected_content_length = False, int(length)
        if not self.keep_alive:
            headers.append((b"connection", b"close"))
        self._head = head_of(start["status"], headers, named)
        return True

    def _answer(self, head: bytes, body: bytes) -> None:
        """Send the held head with its body, and end the answer as uvicorn does."""
        if self.scope["method"] == "HEAD":
            body = b""
        elif len(body) != self.expected_content_length:
            raise RuntimeError("an answer is not as long as it says")
        self.transport.write(head + body)
        self.waiting_for_100_continue = False
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def head_of(status: int, headers: Sequence[tuple[bytes, bytes]], names: Collection[bytes]) -> bytes:
    """The head of an answer, with the empty line that ends it; ``names`` are those of ``headers``.

    Raises RuntimeError when a name or value holds what could end its line, or is no name.
    """
    lines = b"\r\n".join([*map(b": ".join, headers), b"", b""])
    controls = len(lines) - len(lines.translate(None, _CONTROLS))
    if controls != 2 * (len(headers) + 1) or b"".join(names).translate(None, _IN_NAMES):
        raise RuntimeError("a header of an answer cannot be one")
    return STATUS_LINE[status] + lines

"""The frames of a WebSocket that are written, or known, without the library: its objects for them would cost
more than sending them does (RFC 6455, 5.2).
"""

from __future__ import annotations

import json
from typing import Final

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

"""How much waits for a peer that does not read: a frame in this process, and little in the kernel."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

#: The extension of an HTTP scope that does it for its connection.
KEEP_SMALL: Final = "guardwire.keep_buffers_small"

_PROCESS_BYTES: Final = 32_768
_NOT_SENT_BYTES: Final = 16_384
#: The kernel doubles these, for what it needs beside the data.
_SEND_BYTES: Final = 16_384
_RECEIVE_BYTES: Final = 8_192


def keep_buffers_small(transport: asyncio.Transport) -> None:
    """Let a stuck peer be noticed early, and pin some 100 KB for it in all instead of megabytes."""
    transport.set_write_buffer_limits(high=_PROCESS_BYTES)
    raw = transport.get_extra_info("socket")
    if raw is None or raw.family not in (socket.AF_INET, socket.AF_INET6):
        return
    not_sent: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if not_sent is not None:
        raw.setsockopt(socket.IPPROTO_TCP, not_sent, _NOT_SENT_BYTES)
    # That mark leaves out what was sent and is not acknowledged, and says nothing of what a peer sends.
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)

"""The ways to the server, best first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal, NamedTuple

from guardwire.link import Link, Opening
from guardwire.long_poll import open_long_poll
from guardwire.sse import open_event_stream
from guardwire.websocket import open_websocket

TransportName = Literal["websocket", "sse", "poll"]


class Transport(NamedTuple):
    """``open`` gives a link or raises `LinkEnded`."""

    name: TransportName
    open: Callable[[Opening], Awaitable[Link]]


TRANSPORTS: Final = (
    Transport("websocket", open_websocket),
    Transport("sse", open_event_stream),
    Transport("poll", open_long_poll),
)

"""A link in use."""

from __future__ import annotations

from guardwire import clock
from guardwire.ending import Ending, LinkEnded, replaced
from guardwire.link import Link
from guardwire.link_life import LinkLife
from guardwire.messages import ServerFrame
from guardwire.transports import Transport


class Line:
    """How long a link has been in use, the channels that the server was told, and why this side ended it."""

    def __init__(
        self, link: Link, transport: Transport, channels: tuple[str, ...], first: ServerFrame | None = None
    ) -> None:
        """``first`` is a frame that was read from ``link`` already; None for none."""
        self.link = link
        self.transport = transport
        self.channels = channels
        self.life = LinkLife(clock.now())
        #: Whether this side ended it, to open another one at once.
        self.replaced = False
        self._first = first
        self._cut: Ending | None = None

    async def receive(self) -> ServerFrame:
        """The next frame; raises LinkEnded, and says what `cut` was told rather than what the network noticed
        of it.
        """
        self._check()
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            frame = await self.link.receive()
        except LinkEnded:
            self._check()
            raise
        # What was still in a buffer when the link was cut is of no use.
        self._check()
        return frame

    def replace(self) -> None:
        """End it; another one takes its place at once."""
        self.replaced = True
        self.link.abort()

    def cut(self, ending: Ending) -> None:
        """End it, as if it had ended so by itself."""
        self._cut = ending
        self.link.abort()

    def _check(self) -> None:
        if self._cut is not None:
            raise LinkEnded(self._cut)
        if self.replaced:
            raise replaced()

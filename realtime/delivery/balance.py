"""Clients that stayed on few nodes after a restart are asked, some at a time, to move to others.

After a node has come back, its clients are on the other nodes, and a WebSocket does not end by itself. A node that has
many more clients than its share sends some of them the frame `move`. A client that is asked opens another connection
first, so its state stays fresh. The proxy in front chooses the node, so half of the clients may come back to this one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from math import ceil
from typing import Final, Protocol

from realtime.delivery.websocket.connection import Socket
from realtime.metrics import METRICS
from realtime.store.nodes import Site

#: How often nodes count their clients and look at the counts of others.
LOOK_SECONDS: Final = 5.0
#: Clients that are asked together move within this time, and before the next look.
WITHIN_SECONDS: Final = 4.0
#: A node with so many more clients than its share, and so large a part of it, has too many.
_LEAST_SURPLUS: Final = 10
_TOLERANCE: Final = 0.1
#: The part of the surplus that is asked at each look.
_PART: Final = 0.5
#: A surplus that shrank by less than this was not helped by asking: clients of other makes, or a proxy that always
#: chooses the same node for a client. Pauses grow then, up to so many looks.
_HELPED: Final = 0.05
_MOST_PAUSED_LOOKS: Final = 120


class Nodes(Protocol):
    """The part of the store that `Balance` uses."""

    async def report(self, clients: int) -> Site | None: ...

    async def leave(self) -> None: ...


def surplus(clients: int, site: Site) -> int:
    """How many clients a node has beyond its share; 0 where that is no more than chance would give."""
    share = site.clients / max(1, site.nodes)
    over = clients - share
    return int(over) if over > max(_LEAST_SURPLUS, _TOLERANCE * share) else 0


class Pauses:
    """How many looks go by without asking, while asking does not help."""

    def __init__(self) -> None:
        self._asked_at: int | None = None
        self._length = 0
        self._left = 0

    def asks(self, over: int) -> bool:
        """Whether to ask now, when a node has ``over`` clients too many."""
        if over == 0:
            self._asked_at, self._length, self._left = None, 0, 0
            return False
        if self._left > 0:
            self._left -= 1
            return False
        helped = self._asked_at is None or over <= self._asked_at * (1 - _HELPED)
        self._length = 0 if helped else min(2 * self._length + 1, _MOST_PAUSED_LOOKS)
        self._asked_at, self._left = over, self._length
        return True


class Balance:
    """Counts this node's clients with the others', and asks some to move where they are too many."""

    def __init__(
        self,
        *,
        sockets: Callable[[], Sequence[Socket]],
        nodes: Nodes,
        takes_clients: Callable[[], bool],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._sockets = sockets
        self._nodes = nodes
        self._takes_clients = takes_clients
        self._look_seconds = look_seconds
        self._pauses = Pauses()

    async def run(self) -> None:
        """For ever."""
        try:
            while True:
                await self._look()
                await asyncio.sleep(self._look_seconds)
        finally:
            await self._nodes.leave()

    async def _look(self) -> None:
        if not self._takes_clients():
            await self._nodes.leave()
            return
        sockets = [socket for socket in self._sockets() if socket.may_move]
        site = await self._nodes.report(len(sockets))
        over = 0 if site is None else surplus(len(sockets), site)
        if self._pauses.asks(over):
            self._ask(random.sample(sockets, min(len(sockets), ceil(_PART * over))))

    def _ask(self, sockets: Sequence[Socket]) -> None:
        now = time.monotonic()
        for socket in sockets:
            # It may have gone, or be slow, since it was counted.
            if outputs := socket.stream.move(int(WITHIN_SECONDS * 1000), now):
                socket.perform(outputs)
                METRICS.moves.add()

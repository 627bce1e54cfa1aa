"""How many clients each node has, in Redis; the count of a node that died ends by itself."""

from __future__ import annotations

import secrets
from typing import Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from realtime.store.script import Script

#: For so long the count of a node holds.
COUNT_SECONDS: Final = 15
_KEY: Final = "guardwire:nodes"
_GONE: Final = -1


class Site(NamedTuple):
    """The nodes that take clients, and the clients that they have together."""

    nodes: int
    clients: int


class Nodes:
    """This node among the others that share a Redis."""

    def __init__(self, redis: Redis) -> None:
        self._script = Script(redis, "nodes.lua")
        # Names that operators give may occur twice.
        self._name = secrets.token_hex(8)

    async def report(self, clients: int) -> Site | None:
        """Record the clients of this node; all nodes then, None without Redis."""
        try:
            answers = await self._script.run([[_KEY]], lambda _: [self._name, clients, COUNT_SECONDS])
        except (RedisError, OSError, TimeoutError):
            return None
        ((_, (nodes, total)),) = answers
        return Site(int(nodes), int(total))

    async def leave(self) -> None:
        """This node takes no clients any more."""
        await self.report(_GONE)

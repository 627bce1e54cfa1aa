"""Sentinels: servers that watch a primary of Redis and its replicas, and know which one is the primary now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import RedisError

from realtime.redis_url import HostPort

log = logging.getLogger(__name__)

_UNKNOWN: Final = (
    "a Sentinel does not know the service that REDIS_URL names: check it, and `sentinel monitor`"
)


class Sentinels:
    """The Sentinels of one ``service``; together they get ``deadline_seconds`` to answer."""

    def __init__(self, clients: Sequence[Redis], *, service: str, deadline_seconds: float) -> None:
        self._clients = list(clients)
        self._service = service
        self._patience_seconds = deadline_seconds / len(clients)
        self._has_warned = False
        #: The address that was found last.
        self.primary: HostPort | None = None

    async def find_primary(self) -> HostPort:
        """The present primary's address; raises MasterNotFoundError, a ConnectionError, when no Sentinel knows it."""
        for client in list(self._clients):
            address = await self._ask(client)
            if address is not None:
                # The next question goes to the one that answered.
                self._clients.remove(client)
                self._clients.insert(0, client)
                self.primary = address
                return address
        raise MasterNotFoundError("no Sentinel knows the primary")

    async def _ask(self, client: Redis) -> HostPort | None:
        try:
            async with asyncio.timeout(self._patience_seconds):
                answer: Any = await client.sentinel_get_master_addr_by_name(self._service)
        except (RedisError, OSError, TimeoutError):
            return None
        if answer is None:
            if not self._has_warned:
                log.warning(_UNKNOWN)
            self._has_warned = True
            return None
        host, port = answer
        return HostPort(host.decode() if isinstance(host, bytes) else host, int(port))

    async def close(self) -> None:
        """Close the connections to the Sentinels."""
        for client in self._clients:
            await client.aclose()

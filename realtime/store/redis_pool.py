"""Connections to Redis that are given up when their server has become a replica.

After a failover the old primary may live on as a replica. It answers every write with READONLY, over
connections that are in order, so a pool would keep them for ever. The address may lead to the new primary by
now, which only a new connection finds out.
"""

from __future__ import annotations

import weakref
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Connection
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError

#: LOADING is not among them: redis-py takes it for a lost connection by itself.
_DEMOTIONS: Final = (ReadOnlyError, MasterDownError)
#: How servers before Redis 7 report it from within a script.
_OF_A_SCRIPT: Final = "-READONLY"


def is_demotion(error: Exception) -> bool:
    """Whether ``error`` is the answer of a replica to what only a primary does."""
    return isinstance(error, _DEMOTIONS) or (isinstance(error, ResponseError) and _OF_A_SCRIPT in str(error))


class _Noticing:
    """Mixed into a connection class: remembers that its server answered as a replica, until it is closed."""

    #: Whether this connection got such an answer.
    is_demoted = False
    #: Whether another connection of the pool did.
    is_doubtful = False

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            self.is_demoted = self.is_demoted or is_demotion(error)
            raise

    async def disconnect(self, *args: Any, **options: Any) -> None:
        self.is_demoted = self.is_doubtful = False
        await super().disconnect(*args, **options)  # type: ignore[misc]


class PrimaryPool(BlockingConnectionPool):
    """A pool in which no connection is used again once a server answered one of them as a replica.

    A connection is not closed where the answer is read: a pipeline's further answers are still to come.
    """

    def __init__(self, *, connection_class: type[AbstractConnection] = Connection, **options: Any) -> None:
        noticing = type(f"Noticing{connection_class.__name__}", (_Noticing, connection_class), {})
        self._made: weakref.WeakSet[Any] = weakref.WeakSet()
        super().__init__(connection_class=noticing, **options)

    def make_connection(self) -> AbstractConnection:
        connection: AbstractConnection = super().make_connection()  # type: ignore[no-untyped-call]
        self._made.add(connection)
        return connection

    async def ensure_connection(self, connection: Any) -> None:
        if connection.is_doubtful:
            await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)

    async def release(self, connection: Any) -> None:
        if connection.is_demoted:
            # All others lead to the same server, also those over which nothing is written.
            for each in self._made:
                each.is_doubtful = each.is_connected
            await connection.disconnect(nowait=True)
        await super().release(connection)

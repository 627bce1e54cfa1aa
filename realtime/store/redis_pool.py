"""A pool of connections to Redis that closes its connections when their server has become a replica.

After a failover the old primary may live on as a replica. It answers every write with READONLY over working
connections, so a usual pool would keep them for ever. By then the address may lead to the new primary, which only a
new connection reaches.
"""

from __future__ import annotations

import weakref
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError

_DEADLINE_SECONDS: Final = 1.0
_CONNECTIONS: Final = 16
#: Without LOADING, which redis-py itself treats as a lost connection.
_DEMOTIONS: Final = (ReadOnlyError, MasterDownError)
#: The text of this error from within a script, before Redis 7.
_OF_A_SCRIPT: Final = "-READONLY"


def connect(url: str) -> Redis:
    """A client of Redis whose every command fails within a second when the server does not answer.

    Commands beyond ``_CONNECTIONS`` at a time wait for a connection, so a thousand clients that return together wait
    for milliseconds and get no error. Connections to a server that has become a replica are closed (`PrimaryPool`).
    """
    pool = PrimaryPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=_DEADLINE_SECONDS,
        socket_timeout=_DEADLINE_SECONDS,
        socket_connect_timeout=_DEADLINE_SECONDS,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        health_check_interval=0,
    )
    return Redis.from_pool(pool)


def is_demotion(error: Exception) -> bool:
    """Whether ``error`` is a replica's answer to a command for a primary."""
    return isinstance(error, _DEMOTIONS) or (isinstance(error, ResponseError) and _OF_A_SCRIPT in str(error))


class _Noticing:
    """Mixin for a connection class: records that the server answered as a replica, until the connection closes."""

    #: Whether this connection got an answer of a replica.
    is_demoted = False
    #: Whether another connection of the pool got one.
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
    """A pool that uses no connection again once the server answered on one of them as a replica.

    The connection is closed on its release and not when the answer arrives, because further answers of a pipeline may
    follow.
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
            # All other connections lead to the same server, also those that are used for reads alone.
            for each in self._made:
                each.is_doubtful = each.is_connected
            await connection.disconnect(nowait=True)
        await super().release(connection)

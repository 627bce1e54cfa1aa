"""Clients of Redis: of one server, of the primary that Sentinel names, or of a Redis Cluster.

After a failover the old primary may live on as a replica. It answers every write with READONLY over working
connections, so a usual pool would keep them for ever. By then the address may lead to the new primary, which only a
new connection reaches.
"""

from __future__ import annotations

import weakref
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError

from realtime.errors import ConfigurationError
from realtime.redis_url import HostPort, RedisAddress, read_redis_url
from realtime.store.cluster import Cluster
from realtime.store.sentinel import Sentinels

_DEADLINE_SECONDS: Final = 1.0
#: In a cluster the client notes which server did not answer before its callers, who wait for a second, give up.
_PART_FOR_A_SERVER: Final = 0.8
_CONNECTIONS: Final = 16
#: Without LOADING, which redis-py itself treats as a lost connection.
_DEMOTIONS: Final = (ReadOnlyError, MasterDownError)
#: The text of this error from within a script, before Redis 7.
_OF_A_SCRIPT: Final = "-READONLY"


def connect(url: str, *, deadline_seconds: float = _DEADLINE_SECONDS) -> Redis:
    """A client of Redis whose every command fails within ``deadline_seconds`` when the server does not answer.

    Commands beyond ``_CONNECTIONS`` at a time wait for a connection, so a thousand clients that return together wait
    for milliseconds and get no error. Connections to a server that has become a replica are closed (`PrimaryPool`).
    Raises ConfigurationError for an address that cannot be understood.
    """
    try:
        address = read_redis_url(url)
        options: dict[str, Any] = {**parse_url(address.server_url)}
    except ValueError as error:
        raise ConfigurationError([f"REDIS_URL {error}."]) from None
    options = _bounds(deadline_seconds) | options
    if address.kind == "cluster":
        return Cluster(
            address.hosts,
            connect=lambda server: _client(options | server._asdict()),
            deadline_seconds=_PART_FOR_A_SERVER * deadline_seconds,
        )
    if address.kind == "sentinel":
        return _client(options, sentinels=_sentinels(address, options, deadline_seconds))
    return _client(options)


def _bounds(deadline_seconds: float) -> dict[str, Any]:
    """Options by which every wait for Redis is bounded, and no command is repeated."""
    return {
        "max_connections": _CONNECTIONS,
        "timeout": deadline_seconds,
        "socket_timeout": deadline_seconds,
        "socket_connect_timeout": deadline_seconds,
        "retry_on_error": [],
        "health_check_interval": 0,
    }


def _client(options: dict[str, Any], *, sentinels: Sentinels | None = None) -> Redis:
    """A client of one server."""
    return Redis.from_pool(PrimaryPool(retry=Retry(NoBackoff(), 0), **options, sentinels=sentinels))


def _sentinels(address: RedisAddress, options: dict[str, Any], deadline_seconds: float) -> Sentinels:
    """The Sentinels of ``address``, which have logins of their own, and TLS where the servers have it."""
    login = {"username": address.sentinel_username, "password": address.sentinel_password, "db": 0}
    clients = [_client(options | login | host._asdict()) for host in address.hosts]
    return Sentinels(clients, service=address.service, deadline_seconds=deadline_seconds)


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
    follow. With ``sentinels`` each new connection leads to the primary that they name, and as soon as they name
    another one, connections to the old one are not used again.
    """

    def __init__(
        self,
        *,
        connection_class: type[AbstractConnection] = Connection,
        sentinels: Sentinels | None = None,
        **options: Any,
    ) -> None:
        noticing = type(f"Noticing{connection_class.__name__}", (_Noticing, connection_class), {})
        self._made: weakref.WeakSet[Any] = weakref.WeakSet()
        self._sentinels = sentinels
        super().__init__(connection_class=noticing, **options)

    def make_connection(self) -> AbstractConnection:
        connection: AbstractConnection = super().make_connection()  # type: ignore[no-untyped-call]
        self._made.add(connection)
        return connection

    async def ensure_connection(self, connection: Any) -> None:
        if connection.is_doubtful or self._leads_elsewhere(connection):
            await connection.disconnect(nowait=True)
        if self._sentinels is not None and not connection.is_connected:
            connection.host, connection.port = await self._sentinels.find_primary()
        await super().ensure_connection(connection)

    async def release(self, connection: Any) -> None:
        if connection.is_demoted:
            # All other connections lead to the same server, also those that are used for reads alone.
            for each in self._made:
                each.is_doubtful = each.is_connected
            await connection.disconnect(nowait=True)
        await super().release(connection)

    async def aclose(self) -> None:
        await super().aclose()
        if self._sentinels is not None:
            await self._sentinels.close()

    def _leads_elsewhere(self, connection: Any) -> bool:
        """Whether ``connection`` leads to a server that was the primary before the present one."""
        if self._sentinels is None:
            return False
        return HostPort(connection.host, connection.port) != self._sentinels.primary

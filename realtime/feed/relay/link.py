"""One connection to Redis for the relay: whole commands are written at once, and hiredis parses the replies.

Pipelines and `PubSub` of redis-py cost several times as much for each message. Address, user, password, database and
TLS are those of the same URL in redis-py.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, cast

import hiredis
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

#: A part of a command, and a whole one.
Word = str | bytes | int
Command = tuple[Word, ...]
#: The errors with which a connection ends.
LINK_ERRORS: Final = (OSError, TimeoutError, RedisError, hiredis.HiredisError)

_DEADLINE_SECONDS: Final = 1.0
#: The types that hiredis declares are those of a command of one word.
_pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]


class Address(NamedTuple):
    """Where a Redis is, and who this node is there; ``path`` is that of a Unix socket, else None."""

    host: str
    port: int
    path: str | None
    tls: ssl.SSLContext | None
    username: str | None
    password: str | None
    database: int

    @classmethod
    def of(cls, url: str) -> Address:
        """The address that redis-py would use for ``url``."""
        like: Any = ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
        context = getattr(like, "ssl_context", None)
        return cls(
            host=getattr(like, "host", ""),
            port=getattr(like, "port", 0),
            path=getattr(like, "path", None),
            tls=None if context is None else context.get(),
            username=like.username,
            password=like.password,
            database=int(like.db or 0),
        )


class Link(asyncio.Protocol):
    """An open connection. ``on_reply`` gets each reply that no `call` waits for: a value, or `hiredis.ReplyError`."""

    def __init__(self, on_reply: Callable[[Any], None]) -> None:
        self._on_reply = on_reply
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._awaited: tuple[int, list[Any], asyncio.Future[list[Any]]] | None = None
        #: Ends with the connection.
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, address: Address, *, name: str, on_reply: Callable[[Any], None]) -> Link:
        """Connect and authenticate within a second; raises one of `LINK_ERRORS`."""
        loop = asyncio.get_running_loop()
        link = cls(on_reply)
        async with asyncio.timeout(_DEADLINE_SECONDS):
            if address.path is None:
                await loop.create_connection(lambda: link, address.host, address.port, ssl=address.tls)
            else:
                await loop.create_unix_connection(lambda: link, address.path)
            try:
                await link.call(_greeting(address, name))
            except BaseException:
                link.close()
                raise
        return link

    @property
    def waiting_bytes(self) -> int:
        """Bytes that Redis has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, commands: Sequence[Command]) -> None:
        """Write commands without waiting; their replies, if any, go to ``on_reply``."""
        if self._transport is not None:
            self._transport.write(b"".join(map(_pack, commands)))

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Write commands and wait for one reply to each; raises RedisError for the first one that is an error."""
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._awaited = len(commands), [], future
        self.send(commands)
        replies = await future
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise RedisError(str(reply))
        return replies

    def close(self) -> None:
        """Close at once; what was not sent is lost."""
        if self._transport is not None:
            self._transport.abort()

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._take(reply)
        except hiredis.ProtocolError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._awaited is not None and not self._awaited[2].done():
            self._awaited[2].set_exception(exc or ConnectionResetError("Redis closed the connection"))
        if not self.lost.done():
            self.lost.set_result(None)

    def _take(self, reply: Any) -> None:
        if self._awaited is None:
            self._on_reply(reply)
            return
        count, replies, future = self._awaited
        replies.append(reply)
        if len(replies) == count:
            self._awaited = None
            if not future.done():
                future.set_result(replies)


def _greeting(address: Address, name: str) -> list[Command]:
    commands: list[Command] = []
    if address.username:
        commands.append(("AUTH", address.username, address.password or ""))
    elif address.password:
        commands.append(("AUTH", address.password))
    commands.append(("CLIENT", "SETNAME", name))
    if address.database:
        commands.append(("SELECT", address.database))
    return commands

"""A TCP proxy that can delay, cut, and go silent in one direction or both.

A silent proxy stops reading from a side. Nothing arrives, nothing is refused, and neither end notices, as on a
half-open connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Literal, Self

#: `up` leads from the client to the target, `down` back.
Direction = Literal["up", "down"]


class _End(asyncio.Protocol):
    """One end of a connection through the proxy; the other end sends the bytes that this one receives."""

    def __init__(self, proxy: Proxy, direction: Direction) -> None:
        self.proxy = proxy
        self.direction = direction
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None
        self.carried_bytes = 0
        self._early: list[bytes] = []
        self._full = False
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.proxy.ends.add(self)
        self.mind()

    def data_received(self, data: bytes) -> None:
        self.carried_bytes += len(data)
        if self.proxy.delay_seconds:
            asyncio.get_running_loop().call_later(self.proxy.delay_seconds, self._pass_on, data)
        else:
            self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        elif self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.write(data)

    def join(self, other: _End) -> None:
        """Send the bytes that this end receives to ``other`` from now on."""
        self.other = other
        early, self._early = self._early, []
        for data in early:
            self._pass_on(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other._full = True
            self.other.mind()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other._full = False
            self.other.mind()

    def mind(self) -> None:
        """Read, or pause reading, as the proxy and the other end require."""
        if self.transport is None or self.transport.is_closing():
            return
        if self._full or self.direction in self.proxy.silent:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        asyncio.get_running_loop().call_later(self.proxy.delay_seconds, self._end)
        return True

    def _end(self) -> None:
        """Note that this end has closed; when both have, the connection is over."""
        self._ended = True
        if self.other is None or self.other._ended:
            for end in (self, self.other):
                if end is not None and end.transport is not None:
                    end.transport.close()
        elif self.other.transport is not None and not self.other.transport.is_closing():
            with contextlib.suppress(OSError, RuntimeError):
                self.other.transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self.proxy.ends.discard(self)
        other = self.other
        if other is not None and other.transport is not None and not self.proxy.silent:
            other.transport.close()


class Proxy:
    """Listens on a free port and connects to ``target_port``, both on this machine."""

    def __init__(self, name: str, target_port: int) -> None:
        self.name = name
        self.target_port = target_port
        self.port = 0
        self.delay_seconds = 0.0
        self.silent: frozenset[Direction] = frozenset()
        self.ends: set[_End] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accepted, "127.0.0.1", 0, backlog=2048)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.silent = frozenset()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def go_silent(self, *directions: Direction) -> None:
        """Carry nothing more in ``directions``, on present and new connections; an empty set ends the silence."""
        self.silent = frozenset(directions)
        for end in tuple(self.ends):
            end.mind()

    def cut(self) -> int:
        """Reset every connection; returns their number."""
        cut = sum(end.direction == "up" for end in self.ends)
        for end in tuple(self.ends):
            if end.transport is not None:
                end.transport.abort()
        return cut

    @property
    def carried_bytes(self) -> dict[Direction, int]:
        """The bytes that its open connections have carried, by direction."""
        carried: dict[Direction, int] = {"up": 0, "down": 0}
        for end in self.ends:
            carried[end.direction] += end.carried_bytes
        return carried

    def _accepted(self) -> _End:
        near = _End(self, "up")
        task = asyncio.get_running_loop().create_task(self._connect(near), name=f"proxy {self.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return near

    async def _connect(self, near: _End) -> None:
        try:
            _, far = await asyncio.get_running_loop().create_connection(
                lambda: _End(self, "down"), "127.0.0.1", self.target_port
            )
        except OSError:
            if near.transport is not None:
                near.transport.abort()
            return
        near.join(far)
        far.join(near)
        if near.transport is None or near.transport.is_closing():
            assert far.transport is not None
            far.transport.abort()


def heal(all_of: Iterable[Proxy]) -> None:
    """End every disturbance by the proxies."""
    for proxy in all_of:
        proxy.delay_seconds = 0.0
        proxy.go_silent()

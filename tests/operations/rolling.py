"""Two nodes behind a real nginx that are restarted one after the other, under bots with nothing but a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import httpx

from guardwire import Account
from guardwire import connect as follow_account
from realtime.embedded.folder import free_port
from tests.auth.issuer import secret_token
from tests.machine import slowness
from tests.operations.proxy import Proxy, proxy
from tests.operations.server_process import ServerProcess, server_process

#: A bot may be without fresh state for so long while its node restarts, on a quiet machine.
FRESH_WITHIN_SECONDS: Final = 8.0
#: The bots are spread again so soon after the last restart, on a quiet machine.
SPREAD_WITHIN_SECONDS: Final = 60.0
_EACH_USER: Final = 5
_AT_ONCE: Final = 50
_SAMPLE_SECONDS: Final = 0.05
_END_SECONDS: Final = 60.0
#: On a machine that is so slow, a sweep of a node may take the 2 s after which its accounts are stale.
_BUSY: Final = 2.0


@dataclass(frozen=True)
class Rolled:
    """How a rolling restart went.

    ``worst_seconds`` is the longest time for which any bot had no fresh state. ``spread_seconds`` passed after the last
    restart until no node had many more bots than the other, and ``doubted`` bots were not fresh at some moment of that
    time. ``log`` is nginx'. Bounds grow by ``slowness``.
    """

    worst_seconds: float
    spread_seconds: float
    doubted: int
    log: str
    slowness: float

    @property
    def is_quiet(self) -> bool:
        """Whether the nodes had a processor when they needed one: otherwise they call accounts stale by themselves."""
        return self.slowness < _BUSY

    @property
    def refused(self) -> int:
        """How many handshakes nginx answered by itself, because it took no node for alive."""
        return self.log.count(" 502 ") + self.log.count("no live upstreams")


class _Watch:
    """The longest time for which each of some accounts was not fresh."""

    def __init__(self, accounts: Sequence[Account]) -> None:
        self._accounts = accounts
        self._since: dict[int, float] = {}
        self.worst_seconds = 0.0
        self.doubted: set[int] = set()

    async def run(self) -> None:
        while True:
            now = time.monotonic()
            for number, account in enumerate(self._accounts):
                if account.fresh:
                    began = self._since.pop(number, now)
                else:
                    began = self._since.setdefault(number, now)
                    self.doubted.add(number)
                self.worst_seconds = max(self.worst_seconds, now - began)
            await asyncio.sleep(_SAMPLE_SECONDS)


async def rolling_restart(database_url: str, redis_url: str, folder: Path, *, clients: int) -> Rolled:
    """Restart both nodes under so many bots, and wait until all are fresh and spread over both."""
    ports = [free_port(), free_port()]
    # The bots leave before the nodes end, so none meets a proxy without a node.
    async with contextlib.AsyncExitStack() as running, contextlib.AsyncExitStack() as stack:
        nodes: dict[int, ServerProcess] = {}

        async def start(port: int) -> None:
            variables = {"GUARDWIRE_TRUSTED_PROXIES": "127.0.0.1", "GUARDWIRE_PORT": str(port)}
            serving = server_process(database_url, redis_url, folder, variables)
            nodes[port] = await running.enter_async_context(serving)

        for port in ports:
            await start(port)
        front = stack.enter_context(proxy(folder, *(f"127.0.0.1:{port}" for port in ports)))
        accounts = await stack.enter_async_context(_followed(front, clients))
        slow = slowness()
        async with _watched(accounts) as watch:
            for port in ports:
                await nodes[port].ends(signal.SIGTERM, within_seconds=_END_SECONDS)
                await start(port)
            async with asyncio.timeout(2 * FRESH_WITHIN_SECONDS * slow):
                await asyncio.gather(*(account.until_fresh() for account in accounts))
        began = time.monotonic()
        async with _watched(accounts) as spreading, asyncio.timeout(2 * SPREAD_WITHIN_SECONDS * slow):
            while not _is_spread([await sockets_of(node) for node in nodes.values()], clients):
                await asyncio.sleep(_SAMPLE_SECONDS)
        spread_seconds = time.monotonic() - began
        log = front.log.read_text("utf-8")
    return Rolled(watch.worst_seconds, spread_seconds, len(spreading.doubted), log, max(slow, slowness()))


@contextlib.asynccontextmanager
async def _watched(accounts: Sequence[Account]) -> AsyncIterator[_Watch]:
    watch = _Watch(accounts)
    watching = asyncio.create_task(watch.run(), name="watch")
    try:
        yield watch
    finally:
        watching.cancel()
        await asyncio.wait([watching])


@contextlib.asynccontextmanager
async def _followed(front: Proxy, clients: int) -> AsyncIterator[list[Account]]:
    """``clients`` bots, five of each user."""
    async with contextlib.AsyncExitStack() as stack:
        accounts: list[Account] = []
        for first in range(0, clients, _AT_ONCE):
            numbers = range(first, min(first + _AT_ONCE, clients))
            accounts += await asyncio.gather(
                *(stack.enter_async_context(_follow(front, number)) for number in numbers)
            )
        yield accounts


def _follow(front: Proxy, number: int) -> contextlib.AbstractAsyncContextManager[Account]:
    token = secret_token(sub=str(UUID(int=number // _EACH_USER + 1)))
    return follow_account(front.url, token=token, transports=["websocket"])


def _is_spread(sockets: Sequence[int], clients: int) -> bool:
    share = clients / len(sockets)
    return sum(sockets) == clients and max(sockets) - share <= max(10, 0.1 * share)


async def sockets_of(node: ServerProcess) -> int:
    """How many WebSockets a node counts."""
    async with httpx.AsyncClient(base_url=node.url) as client:
        (count,) = re.findall(r"^guardwire_sockets (\d+)", (await client.get("/metrics")).text, re.MULTILINE)
        return int(count)

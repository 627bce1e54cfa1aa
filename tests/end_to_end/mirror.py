"""A client as a third party would write it: ten lines, a WebSocket library, and a library for RFC 7396.

async with mirror(url, token) as account:
    await account.until(lambda: account.state["guards"]["any_positions_should_close"])
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

import json_merge_patch
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed


class Received(NamedTuple):
    """A frame, and the monotonic time of its arrival."""

    at: float
    frame: dict[str, Any]
    text: str


class Mirror:
    """The state of one account from the stream; `frames` holds every received frame."""

    def __init__(self, connection: ClientConnection, held: Mirror | None = None) -> None:
        self.state: dict[str, Any] = held.state if held else {}
        self.epoch: int = held.epoch if held else 0
        self.revision: int = held.revision if held else -1
        self.resumed: bool | None = None
        self.stale = False
        self.resyncs = 0
        self.frames: list[Received] = []
        self.closed: ConnectionClosed | None = None
        self._connection = connection
        self._news = asyncio.Event()

    def frames_of(self, *types: str) -> list[dict[str, Any]]:
        """The received frames of these types."""
        return [received.frame for received in self.frames if received.frame["type"] in types]

    async def send(self, frame: Mapping[str, Any]) -> None:
        """Send a frame."""
        await self._connection.send(json.dumps(frame))

    async def until(self, condition: Callable[[], Any], *, seconds: float = 10.0) -> float:
        """Wait until ``condition`` holds after some frame, and return the time that it took.

        Raises AssertionError when it does not hold within ``seconds``, or when the stream ends before.
        """
        began = time.monotonic()
        while not condition():
            self._news.clear()
            left = began + seconds - time.monotonic()
            assert self.closed is None, f"the stream ended: {self.closed}"
            assert left > 0, f"not within {seconds} s; the last frame was {self.frames[-1:]}"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)
        return time.monotonic() - began

    async def until_revision(self, revision: int, *, seconds: float = 10.0) -> float:
        """Wait until the mirror is at ``revision`` or later, and return the time that it took."""
        return await self.until(lambda: self.revision >= revision, seconds=seconds)

    async def until_closed(self) -> None:
        """Wait until the stream ends."""
        while self.closed is None:
            self._news.clear()
            await self._news.wait()

    async def follow(self) -> None:
        """Read frames until the connection ends."""
        try:
            async for text in self._connection:
                assert isinstance(text, str)
                frame = json.loads(text)
                self.frames.append(Received(time.monotonic(), frame, text))
                await self._take(frame)
                self._news.set()
        except ConnectionClosed as closed:
            self.closed = closed
        else:
            self.closed = ConnectionClosed(None, None)
        self._news.set()

    async def _take(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "welcome":
                self.resumed = frame["resumed"]
            case "snapshot":
                assert (frame["epoch"], frame["revision"]) >= (self.epoch, self.revision), "it went back"
                self.epoch, self.revision, self.state = frame["epoch"], frame["revision"], frame["state"]
            case "update" | "heartbeat":
                self.stale = frame.get("stale", False)
                if frame["base"] != self.revision:
                    self.resyncs += 1
                    await self.send({"type": "resync"})
                    return
                assert frame["revision"] >= self.revision, "it went back"
                # The library merges in place, and tests keep earlier states.
                self.state = json_merge_patch.merge(copy.deepcopy(self.state), frame.get("patch", {}))
                self.revision = frame["revision"]


@contextlib.asynccontextmanager
async def mirror(url: str, token: str, *, held: Mirror | None = None) -> AsyncIterator[Mirror]:
    """Connect to the server at ``url`` and follow the account of ``token``, from the position in ``held`` on."""
    since = f"?since={held.epoch}:{held.revision}" if held else ""
    address = url.replace("http", "ws", 1) + "/ws" + since
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(address, additional_headers=headers, compression=None, proxy=None) as connection:
        account = Mirror(connection, held)
        following = asyncio.create_task(account.follow(), name="mirror")
        try:
            await account.until(lambda: account.resumed or account.frames_of("snapshot"))
            yield account
        finally:
            await connection.close()
            await following

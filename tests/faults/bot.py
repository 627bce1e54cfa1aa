"""A client as a third party would write it. It reconnects as a real client does, and checks every promise that it sees.

The promises are those of PROTOCOL.md to every client. A broken promise is a line in `Crowd.broken`, with the name of
the bot that saw it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from tests.end_to_end.marks import Marks, Owner

#: A client that has received nothing for this long is blind, and connects again (PROTOCOL.md).
BLIND_SECONDS: Final = 15.0
_FIRST_DELAY_SECONDS: Final = 0.5
_LONGEST_DELAY_SECONDS: Final = 30.0
_OPEN_SECONDS: Final = 5.0
_SERIAL: Final = " serial "


@dataclass(eq=False)
class Bot:
    """One client of one account. It tries the addresses in turn, as a balancer would offer them."""

    owner: Owner
    token: str
    addresses: Sequence[str]
    marks: Marks
    state: dict[str, Any] = field(default_factory=dict)
    epoch: int = 0
    revision: int = -1
    serial: int = -1
    fresh_from: float | None = None
    #: How often the client has ceased to take its state for current.
    doubts: int = 0
    heard_at: float = 0.0
    waits_for_snapshot: bool = False
    broken: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    #: Called with the serial number of a change when the client first shows it.
    on_serial: Callable[[Bot, int, float], None] | None = None
    connection: ClientConnection | None = None
    address: str = ""
    _failures: int = 0

    @property
    def believes_fresh(self) -> bool:
        """Whether the client takes its state for current."""
        return self.fresh_from is not None

    async def run(self) -> None:
        """Connect and follow for ever."""
        turn = random.randrange(len(self.addresses))
        while True:
            turn += 1
            hint_seconds = await self._one_connection(self.addresses[turn % len(self.addresses)])
            limit = min(_FIRST_DELAY_SECONDS * 2.0 ** min(self._failures, 16), _LONGEST_DELAY_SECONDS)
            self._failures += 1
            await asyncio.sleep(hint_seconds + random.random() * limit)

    async def _one_connection(self, address: str) -> float:
        """Seconds that the server asked the client to wait before the next attempt."""
        since = f"?since={self.epoch}:{self.revision}" if self.epoch else ""
        try:
            async with connect(
                f"{address}/ws{since}",
                additional_headers={"Authorization": f"Bearer {self.token}"},
                compression=None, proxy=None, ping_interval=None, max_size=None,
                open_timeout=_OPEN_SECONDS, close_timeout=0.5,
            ) as connection:  # fmt: skip
                self.connection, self.address = connection, address
                try:
                    return await self._follow(connection)
                finally:
                    self.connection = None
                    self._doubt()
                    self.waits_for_snapshot = False
        except InvalidStatus as refused:
            self.ends[str(refused.response.status_code)] += 1
            if refused.response.status_code in (401, 403):
                self.broken.append(f"refused with {refused.response.status_code}")
            return float(refused.response.headers.get("retry-after", 0))
        except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed) as error:
            self.ends[type(error).__name__] += 1
            return 0.0

    async def _follow(self, connection: ClientConnection) -> float:
        self.heard_at = time.monotonic()
        try:
            while True:
                async with asyncio.timeout(BLIND_SECONDS):
                    text = await connection.recv()
                assert isinstance(text, str)
                await self._take(text)
        except TimeoutError:
            self.ends["blind"] += 1
            self._doubt()
            connection.transport.abort()
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 1006
            self.ends[str(code)] += 1
            with contextlib.suppress(ValueError, AttributeError, TypeError):
                return float(json.loads(closed.rcvd.reason)["retry_after_ms"]) / 1000  # type: ignore[union-attr]
        return 0.0

    async def _take(self, text: str) -> None:
        self.heard_at = now = time.monotonic()
        frame = json.loads(text)
        kind = frame["type"]
        self.seen[kind] += 1
        if foreign := self.marks.foreign(self.owner, text):
            self.broken.append(f"another user's data: {foreign}")
        stale = False
        if kind == "snapshot":
            self._take_snapshot(frame)
        elif kind in ("update", "heartbeat"):
            if not await self._take_step(frame):
                return
            stale = frame.get("stale", False)
        elif kind == "welcome":
            if frame["epoch"] < self.epoch:
                self.broken.append(f"the epoch fell from {self.epoch} to {frame['epoch']}")
            self.seen["resumed"] += frame["resumed"]
            return
        elif kind == "error":
            self.broken.append(f"an error that nobody caused: {text}")
            return
        else:
            return
        self._failures = 0
        self._believe(now, stale=stale)

    def _believe(self, now: float, *, stale: bool) -> None:
        if stale or not self.state:
            self._doubt()
        elif self.fresh_from is None:
            self.fresh_from = now
        message = str(self.state.get("status", {}).get("error_message", ""))
        serial = int(message.rpartition(_SERIAL)[2]) if _SERIAL in message else -1
        if serial > self.serial:
            self.serial = serial
            if self.on_serial is not None:
                self.on_serial(self, serial, now)

    def _doubt(self) -> None:
        self.doubts += self.fresh_from is not None
        self.fresh_from = None

    def _take_snapshot(self, frame: dict[str, Any]) -> None:
        position = frame["epoch"], frame["revision"]
        if position < (self.epoch, self.revision):
            self.broken.append(f"it went back from {(self.epoch, self.revision)} to {position}")
        if position[0] > self.epoch:
            self.serial = -1
        self.epoch, self.revision, self.state = *position, frame["state"]
        self.waits_for_snapshot = False

    async def _take_step(self, frame: dict[str, Any]) -> bool:
        """Apply an update or a heartbeat; False when it does not fit and the client has asked for a snapshot."""
        if self.waits_for_snapshot:
            return False
        if frame["base"] != self.revision:
            # The protocol allows this gap, if the client notices it, asks, and gets a snapshot.
            self.seen["gap"] += 1
            self.waits_for_snapshot = True
            self._doubt()
            assert self.connection is not None
            await self.connection.send('{"type":"resync"}')
            return False
        if frame["revision"] < self.revision:
            self.broken.append(f"it went back from {self.revision} to {frame['revision']}")
        self.state = merge(self.state, frame.get("patch", {}))
        self.revision = frame["revision"]
        return True


def merge(target: Any, patch: Any) -> Any:
    """A merge patch as in RFC 7396, literally."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result

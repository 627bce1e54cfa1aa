"""The streams that a bot iterates over: nothing is queued, each step compares what was seen last with what is
now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable

from guardwire.changes import Change, Path, differences
from guardwire.connection import Connection
from guardwire.freshness import Status
from guardwire.session import Held, Session
from guardwire.signal import Signal
from guardwire.state import AccountState


class Changes(AsyncIterator[Change]):
    """Made by `Account.changes`; any number may be in use at once."""

    def __init__(self, session: Session, connection: Connection, signal: Signal, under: Path) -> None:
        self._session = session
        self._connection = connection
        self._signal = signal
        self._under = under
        self._seen: Held | None = None
        # Refilled only when empty, so it never holds more than one comparison.
        self._ahead: deque[Change] = deque()

    async def __anext__(self) -> Change:
        while not self._ahead:
            held = self._session.held
            if held is not None and held is not self._seen:
                before = {} if self._seen is None else self._seen.raw
                self._seen = held
                self._ahead.extend(differences(before, held.raw, under=self._under, revision=held.revision))
                continue
            _end_with(self._connection)
            await self._signal.wait()
        return self._ahead.popleft()


class FreshStates(AsyncIterator[AccountState]):
    """Made by `Account.fresh_states`; ``is_fresh`` tells, ``doubts`` counts how often it told otherwise."""

    def __init__(
        self,
        session: Session,
        connection: Connection,
        signal: Signal,
        *,
        is_fresh: Callable[[], bool],
        doubts: Callable[[], int],
    ) -> None:
        self._session = session
        self._connection = connection
        self._signal = signal
        self._is_fresh = is_fresh
        self._doubts = doubts
        self._seen: tuple[object, int] | None = None

    async def __anext__(self) -> AccountState:
        while True:
            held = self._session.held
            assert held is not None
            # Whoever was told "not fresh" and came back for another state gets one, though it be the same.
            news = self._seen is None or self._seen[0] is not held.raw or self._seen[1] != self._doubts()
            if news and self._is_fresh():
                self._seen = held.raw, self._doubts()
                return held.state
            _end_with(self._connection)
            await self._signal.wait()


class Statuses(AsyncIterator[Status]):
    """Made by `Account.statuses`."""

    def __init__(self, read: Callable[[], Status], connection: Connection, signal: Signal) -> None:
        self._read = read
        self._connection = connection
        self._signal = signal
        self._seen: Status | None = None

    async def __anext__(self) -> Status:
        while (status := self._read()) == self._seen:
            _end_with(self._connection)
            await self._signal.wait()
        self._seen = status
        return status


def _end_with(connection: Connection) -> None:
    if connection.failure is not None:
        raise connection.failure
    if connection.closed:
        raise StopAsyncIteration

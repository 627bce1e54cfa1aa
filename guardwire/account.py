"""What a bot works with: one account's live state, how fresh it is, and what changes."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import datetime
from typing import Any, get_args

from guardwire import clock
from guardwire.connection import Connection
from guardwire.errors import StaleState
from guardwire.freshness import Status
from guardwire.iterators import Changes, FreshStates, Statuses
from guardwire.session import Held, Session
from guardwire.signal import Signal
from guardwire.state import CHANNELS, AccountState, ChannelName
from guardwire.transports import TransportName


class Account:
    """A live mirror of one account; made by `guardwire.connect`, which returns once there is a state.

    Everything read without an await in between belongs to one revision.
    """

    def __init__(
        self, session: Session, connection: Connection, signal: Signal, *, max_age_seconds: float
    ) -> None:
        self._session = session
        self._connection = connection
        self._signal = signal
        self._max_age_seconds = max_age_seconds
        self._doubts = 0

    @property
    def state(self) -> AccountState:
        """The newest state; channels that are not subscribed to are None in it."""
        return self._held.state

    @property
    def raw(self) -> dict[str, Any]:
        """The same as JSON values: the caller's own copy."""
        return copy.deepcopy(self._held.raw)

    @property
    def revision(self) -> int:
        """Of the state; grows within an `epoch`."""
        return self._held.revision

    @property
    def epoch(self) -> int:
        """Names the database's history; in another epoch revisions begin anew."""
        return self._held.epoch

    @property
    def age(self) -> float | None:
        """Seconds since the read began that last showed the state to be the newest, by no clock but the
        passage of time.
        """
        return self._session.freshness.age_seconds(clock.now())

    @property
    def status(self) -> Status:
        """``connected``; ``stale`` when the state may have moved on; ``blind`` when nothing confirmed it for
        15 s.
        """
        return "blind" if self._connection.closed else self._session.status(clock.now())

    @property
    def fresh(self) -> bool:
        """Whether the state may be acted on: connected, and not older than the ``max_age_seconds`` of
        `connect`.
        """
        return self._doubt(self._max_age_seconds) is None

    def require_fresh(self, *, max_age_seconds: float | None = None) -> None:
        """Raise StaleState unless the state may be acted on, or what ended the connection for good.

        ``max_age_seconds`` None means that of `connect`. Call it right before acting, with no await between.
        """
        if self._connection.failure is not None:
            raise self._connection.failure
        doubt = self._doubt(self._max_age_seconds if max_age_seconds is None else max_age_seconds)
        if doubt is not None:
            raise StaleState(self.age, doubt)

    async def until_fresh(self, *, max_age_seconds: float | None = None) -> None:
        """Wait until `require_fresh` would not raise; raises what ended the connection for good."""
        limit = self._max_age_seconds if max_age_seconds is None else max_age_seconds
        while self._doubt(limit) is not None:
            if self._connection.failure is not None:
                raise self._connection.failure
            if self._connection.closed:
                raise StaleState(self.age, "the connection was closed")
            await self._signal.wait()

    def seconds_until(self, moment: str) -> float | None:
        """Seconds until a time of the state, such as ``liquidation_at``; negative once it has passed.

        By the database's clock and the passage of time here, so this machine's clock need not be right; None
        when the server did not tell its time.
        """
        now = self._session.freshness.database_now(clock.now())
        return None if now is None else (datetime.fromisoformat(moment) - now).total_seconds()

    @property
    def transport(self) -> TransportName | None:
        """What the state comes over: ``websocket``, ``sse`` or ``poll``; None while nothing is connected."""
        line = self._connection.line
        return None if line is None else line.transport.name

    @property
    def channels(self) -> tuple[ChannelName, ...]:
        """The channels that are subscribed to."""
        return self._connection.channels

    def changes(self, *path: str) -> Changes:
        """What is there at or below ``path``, and then every change of it, for ever.

        ``changes("guards")`` follows a channel, ``changes("guards", "breaches")`` a part of it, ``changes()``
        all. A slow reader is never behind by more than one comparison: it gets the difference between what it
        saw last and what is now. Ends when the account is closed; raises what ended the connection for good.
        """
        if path and path[0] not in CHANNELS:
            names = f"{path[0]!r} is not one of the channels {', '.join(CHANNELS)}"
            split = ", ".join(map(repr, path[0].split(".")))
            raise ValueError(f"{names}: write changes({split})" if "." in path[0] else names)
        return Changes(self._session, self._connection, self._signal, path)

    def fresh_states(self) -> FreshStates:
        """The newest state as soon as it is fresh, again whenever it has changed, and again when it is fresh
        after `fresh` or `require_fresh` said that it was not.

        For bots that act on what is, rather than on what changed: whatever kept one from acting, it is asked
        again. Ends and raises as `changes` does.
        """
        return FreshStates(
            self._session,
            self._connection,
            self._signal,
            is_fresh=lambda: self.fresh,
            doubts=lambda: self._doubts,
        )

    def statuses(self) -> Statuses:
        """The `status` now, and again whenever it is another; ends and raises as `changes` does."""
        return Statuses(lambda: self.status, self._connection, self._signal)

    async def subscribe(self, *channels: ChannelName) -> None:
        """Add channels; returns once their state is there."""
        wanted = in_order((*self.channels, *channels))
        self._connection.choose(wanted)
        await self._until_held(wanted)

    async def unsubscribe(self, *channels: ChannelName) -> None:
        """Drop channels; returns once their state is gone. One must be left."""
        in_order(channels)
        wanted = in_order(channel for channel in self.channels if channel not in channels)
        self._connection.choose(wanted)
        await self._until_held(wanted)

    async def _until_held(self, wanted: tuple[ChannelName, ...]) -> None:
        while self.channels == wanted and set(self._held.raw) != set(wanted):
            if self._connection.failure is not None:
                raise self._connection.failure
            if self._connection.closed:
                return
            await self._signal.wait()

    @property
    def _held(self) -> Held:
        held = self._session.held
        assert held is not None, "an account is handed out with a state"
        return held

    def _doubt(self, max_age_seconds: float) -> str | None:
        """Why the state may not be acted on; None when it may."""
        doubt = self._doubt_now(max_age_seconds)
        if doubt is not None:
            self._doubts += 1
        return doubt

    def _doubt_now(self, max_age_seconds: float) -> str | None:
        if self._connection.closed:
            return "the connection was closed"
        match self.status:
            case "blind":
                return "nothing confirmed it for 15 s"
            case "stale":
                return "it may have moved on since"
            case "connected":
                age_seconds = self.age
                too_old = age_seconds is None or age_seconds > max_age_seconds
                return f"that is over the limit of {max_age_seconds:g} s" if too_old else None


def in_order(channels: Iterable[str]) -> tuple[ChannelName, ...]:
    """``channels``, each once, in the state's order; raises ValueError for none and for unknown ones."""
    wanted = set(channels)
    if not wanted or not wanted <= set(CHANNELS):
        raise ValueError(f"channels must be a choice of {', '.join(get_args(ChannelName))}")
    return tuple(channel for channel in CHANNELS if channel in wanted)

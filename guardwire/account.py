"""The live state of one account as a bot reads it: its freshness, its changes, and its subscriptions."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from guardwire import clock
from guardwire.acknowledgements import Request
from guardwire.alerts import AlertIterator, OpenAlert
from guardwire.attendance import BeatLimit
from guardwire.connection import Connection, Notifier
from guardwire.errors import RequestRefused, StaleState
from guardwire.link import TransportName
from guardwire.messages import Ack, Action, Attend, Leave, Snooze, decode_client_frame, encode
from guardwire.mirror import Held, Level, MirroredAccount
from guardwire.patch import State
from guardwire.state import CHANNELS, AccountState, ChannelName, order_channels
from guardwire.turns import AlertReader

Path = tuple[str, ...]

#: A channel, and a collection or guard directly in it, is never one change: its parts are. A new record is
#: therefore one change wherever the comparison started. A deeper part that appeared or disappeared is one change.
_ALWAYS_OPEN_DEPTH: Final = 2
#: A bot that acts waits no longer than this until its acknowledgement is on its way.
_SEND_SECONDS: Final = 1.0
#: The name in acknowledgements of a bot that has given none.
_UNNAMED: Final = "unnamed bot"


class Change(NamedTuple):
    """One difference between the state that this reader saw last and the state at ``revision``.

    ``path`` leads to it: ``("guards", "drawdown", "alert_type")``, or ``("positions", "open", "123")`` for a position
    that appeared or disappeared. ``new`` and ``old`` are JSON values, None where there is or was nothing. They are
    copies that belong to the reader.
    """

    path: Path
    new: Any
    old: Any
    channel: str
    revision: int


def differences(old: State, new: State, *, under: Path, revision: int) -> list[Change]:
    """Every change from ``old`` to ``new`` at or below the path ``under``: in the order of ``new``, removals last."""
    return [
        Change(path, copy.deepcopy(after), copy.deepcopy(before), path[0], revision)
        for path, before, after in _walk((), old, new)
        if path[: len(under)] == under
    ]


def _walk(path: Path, before: Any, after: Any) -> Iterator[tuple[Path, Any, Any]]:
    if before == after:
        return
    both = type(before) is dict and type(after) is dict
    has_appeared_or_gone = (before is None and type(after) is dict) or (
        after is None and type(before) is dict
    )
    if both or (has_appeared_or_gone and len(path) <= _ALWAYS_OPEN_DEPTH):
        olds, news = before or {}, after or {}
        for key in [*news, *(key for key in olds if key not in news)]:
            yield from _walk((*path, key), olds.get(key), news.get(key))
    else:
        yield path, before, after


class Account:
    """A live mirror of one account; `guardwire.connect` makes it, and gives it out once there is a state.

    Values that are read without an await between them belong to one revision.
    """

    def __init__(
        self, mirrored: MirroredAccount, connection: Connection, notifier: Notifier, *, max_age_seconds: float
    ) -> None:
        self._mirrored = mirrored
        self._connection = connection
        self._notifier = notifier
        self._max_age_seconds = max_age_seconds
        self._doubts = 0
        self._name: str | None = None

    @property
    def state(self) -> AccountState:
        """The newest state; a channel that is not subscribed to is None in it."""
        return self._held.state

    @property
    def raw(self) -> dict[str, Any]:
        """The newest state as JSON values: a copy that belongs to the caller."""
        return copy.deepcopy(self._held.raw)

    @property
    def revision(self) -> int:
        """The revision of the state; it grows within an `epoch`."""
        return self._held.revision

    @property
    def epoch(self) -> int:
        """The number of the database's history; in another epoch revisions begin anew."""
        return self._held.epoch

    @property
    def age(self) -> float | None:
        """Seconds since the server began the read that last confirmed the state, measured on this machine."""
        return self._mirrored.age.age_seconds(clock.now())

    @property
    def status(self) -> Level:
        """``connected``, ``stale`` when the state may have moved on, ``blind`` when no frame confirmed it for 15 s.

        Where the server sends heartbeats more rarely than every 5 s, three heartbeats count instead of the 15 s.
        """
        return "blind" if self._connection.is_closed else self._mirrored.level(clock.now())

    @property
    def fresh(self) -> bool:
        """Whether the state may be acted on: connected, and no older than the ``max_age_seconds`` of `connect`."""
        return self._doubt(self._max_age_seconds) is None

    def require_fresh(self, *, max_age_seconds: float | None = None) -> None:
        """Raise StaleState unless the state may be acted on; raise the reason if the connection has ended for good.

        ``max_age_seconds`` None means that of `connect`. Call it right before acting, without an await between.
        """
        if self._connection.failure is not None:
            raise self._connection.failure
        doubt = self._doubt(self._max_age_seconds if max_age_seconds is None else max_age_seconds)
        if doubt is not None:
            raise StaleState(self.age, doubt)

    async def until_fresh(self, *, max_age_seconds: float | None = None) -> None:
        """Wait until the state may be acted on; raises the reason if the connection ends for good."""
        limit = self._max_age_seconds if max_age_seconds is None else max_age_seconds
        while self._doubt(limit) is not None:
            if self._connection.failure is not None:
                raise self._connection.failure
            if self._connection.is_closed:
                raise StaleState(self.age, "the connection was closed")
            await self._notifier.wait()

    def seconds_until(self, moment: str) -> float | None:
        """Seconds until a time in the state, such as ``liquidation_at``; negative once it has passed.

        It is measured by the database's clock and the passage of time here, so this machine's clock may be wrong. None
        when the server has not sent its time.
        """
        now = self._mirrored.age.database_now(clock.now())
        return None if now is None else (datetime.fromisoformat(moment) - now).total_seconds()

    @property
    def transport(self) -> TransportName | None:
        """The transport in use: ``websocket``, ``sse`` or ``poll``; None while there is no link."""
        link = self._connection.link
        return None if link is None else link.name

    @property
    def channels(self) -> tuple[ChannelName, ...]:
        """The channels that are subscribed to, in the order of `guardwire.state.CHANNELS`."""
        return self._connection.channels

    def changes(self, *path: str) -> ChangeIterator:
        """Everything at or below ``path`` now, and then every change of it.

        ``changes("guards")`` follows a channel, ``changes("guards", "breaches")`` a part of it, ``changes()`` the whole
        state. Changes are not queued: a slow reader gets the difference between the state that it saw last and the
        newest one. The iterator ends when the account is closed, and raises the reason if the connection ends for good.
        """
        if path and path[0] not in CHANNELS:
            names = f"{path[0]!r} is not one of the channels {', '.join(CHANNELS)}"
            split = ", ".join(map(repr, path[0].split(".")))
            raise ValueError(f"{names}: write changes({split})" if "." in path[0] else names)
        return ChangeIterator(self._mirrored, self._connection, self._notifier, path)

    def fresh_states(self) -> FreshStateIterator:
        """The newest state once it is fresh, and again after each change.

        The same state comes again after `fresh` was False or `require_fresh` raised, so a bot that could not act gets
        another chance to. For bots that act on the present state rather than on changes. Ends and raises as `changes`
        does.
        """
        return FreshStateIterator(
            self._mirrored,
            self._connection,
            self._notifier,
            is_fresh=lambda: self.fresh,
            count_doubts=lambda: self._doubts,
        )

    def statuses(self) -> StatusIterator:
        """The `status` now, and again whenever it changes; ends and raises as `changes` does."""
        return StatusIterator(lambda: self.status, self._connection, self._notifier)

    def alerts(self, *, beat: Callable[[], None] | None = None) -> AlertIterator:
        """Each open alert, also one that was raised while no bot ran; the most urgent first.

        An alert comes once in each generation, and again when an acknowledgement is over and the alert escalated. An
        alert that somebody else has acknowledged does not come. One that was acknowledged under the name of `attend` by
        an earlier run of this bot does. ``beat`` is that of `attend`: it is called before each alert, and once a second
        while the caller waits for one. On a server without alerts none comes, and a warning is logged. Ends and raises
        as `changes` does.
        """
        if "alerts" not in self.channels:
            self._connection.choose(order_channels((*self.channels, "alerts")))
        reader = AlertReader(self._mirrored.turns, lambda: self._name)
        return AlertIterator(
            self._mirrored, self._connection, self._notifier, desk=self, reader=reader, beat=beat
        )

    @asynccontextmanager
    async def attend(self, name: str, *, lease_seconds: float = 15.0) -> AsyncIterator[Callable[[], None]]:
        """Attend the account under ``name``, which acknowledgements carry too; gives out ``beat``.

        Call ``beat()`` from the loop that decides, more often than three times in ``lease_seconds`` (5 to 60): a bot
        that does not call it attends no more, although its connection is open. A frame is sent at most once in a third
        of the lease. At the end the bot leaves. Raises ValueError for a name or a lease that no server takes.
        """
        frame = _checked(Attend(by=name, lease_seconds=lease_seconds))
        limit = BeatLimit(lease_seconds)

        def beat() -> None:
            link = self._connection.link
            if link is not None and link.has_frames and limit.take(link, clock.now()):
                self._connection.attend(frame)

        before, self._name = self._name, name
        reason = "the bot ended"
        try:
            beat()
            yield beat
        except BaseException as error:
            reason = f"the bot ended with {type(error).__name__}"
            raise
        finally:
            self._name = before
            await self._connection.leave(Leave(by=name, reason=reason), within_seconds=_SEND_SECONDS)

    async def acknowledge(self, alert: OpenAlert, action: Action = "received") -> None:
        """Acknowledge ``alert``: ``received``, ``acting`` or ``done``; returns once that is committed.

        While the link is down it waits for the next one. Raises RequestRefused when the server refuses, and the reason
        if the connection ends for good. To act on an alert, use `OpenAlert.acting` instead, which waits for no answer.
        """
        await self._until_over(self._connection.put(self._ack(alert, action)))

    async def snooze(self, alert: OpenAlert, *, seconds: int, reason: str) -> None:
        """Put the escalation of ``alert`` off by 1 to 3,600 seconds; returns once that is committed.

        Raises as `acknowledge` does, and ValueError for values that no server takes.
        """
        by = self._name or _UNNAMED
        frame = Snooze(alert=alert.id, generation=alert.generation, seconds=seconds, by=by, reason=reason)
        await self._until_over(self._connection.put(_checked(frame)))

    async def note_action(self, alert: OpenAlert, action: Action) -> None:
        """Acknowledge ``alert`` without a wait for the answer; a refusal is logged."""
        request = self._connection.put(self._ack(alert, action))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SEND_SECONDS):
                while not (request.was_sent or request.is_over) and self._connection.link is not None:
                    await self._notifier.wait()

    def _ack(self, alert: OpenAlert, action: Action) -> Ack:
        return _checked(Ack(alerts={alert.id: alert.generation}, by=self._name or _UNNAMED, action=action))

    async def _until_over(self, request: Request) -> None:
        while not request.is_over:
            if self._connection.failure is not None:
                raise self._connection.failure
            if self._connection.is_closed:
                raise StaleState(self.age, "the connection was closed")
            await self._notifier.wait()
        if request.refusal is not None:
            raise RequestRefused(request.refusal.code, request.refusal.message)

    async def subscribe(self, *channels: ChannelName) -> None:
        """Add channels; returns once the state has them."""
        wanted = order_channels((*self.channels, *channels))
        self._connection.choose(wanted)
        await self._until_held(wanted)

    async def unsubscribe(self, *channels: ChannelName) -> None:
        """Drop channels; returns once the state has them no more. At least one must be left."""
        order_channels(channels)
        wanted = order_channels(channel for channel in self.channels if channel not in channels)
        self._connection.choose(wanted)
        await self._until_held(wanted)

    async def _until_held(self, wanted: tuple[ChannelName, ...]) -> None:
        while self.channels == wanted and set(self._held.raw) != set(wanted) - self._unavailable:
            self._connection.warn_without_alerts()
            if self._connection.failure is not None:
                raise self._connection.failure
            if self._connection.is_closed:
                return
            await self._notifier.wait()

    @property
    def _unavailable(self) -> set[str]:
        return {"alerts"} if self._connection.has_alerts is False else set()

    @property
    def _held(self) -> Held:
        held = self._mirrored.held
        assert held is not None, "connect() gives out an account once it has a state"
        return held

    def _doubt(self, max_age_seconds: float) -> str | None:
        """Why the state may not be acted on; None when it may."""
        doubt = self._doubt_now(max_age_seconds)
        if doubt is not None:
            self._doubts += 1
        return doubt

    def _doubt_now(self, max_age_seconds: float) -> str | None:
        if self._connection.is_closed:
            return "the connection was closed"
        match self.status:
            case "blind":
                return f"nothing confirmed it for {self._mirrored.age.blind_after_seconds:g} s"
            case "stale":
                return "it may have moved on since"
            case "connected":
                age_seconds = self.age
                too_old = age_seconds is None or age_seconds > max_age_seconds
                return f"that is over the limit of {max_age_seconds:g} s" if too_old else None


class ChangeIterator(AsyncIterator[Change]):
    """The iterator of `Account.changes`; any number may be in use at once."""

    def __init__(
        self, mirrored: MirroredAccount, connection: Connection, notifier: Notifier, under: Path
    ) -> None:
        self._mirrored = mirrored
        self._connection = connection
        self._notifier = notifier
        self._under = under
        self._seen: Held | None = None
        # It is filled only when it is empty, so it never holds more than one comparison.
        self._pending: deque[Change] = deque()

    async def __anext__(self) -> Change:
        while not self._pending:
            held = self._mirrored.held
            if held is not None and held is not self._seen:
                before = {} if self._seen is None else self._seen.raw
                self._seen = held
                self._pending.extend(differences(before, held.raw, under=self._under, revision=held.revision))
                continue
            self._connection.raise_end()
            await self._notifier.wait()
        return self._pending.popleft()


class FreshStateIterator(AsyncIterator[AccountState]):
    """The iterator of `Account.fresh_states`; ``count_doubts`` counts how often the state was not fresh when asked."""

    def __init__(
        self,
        mirrored: MirroredAccount,
        connection: Connection,
        notifier: Notifier,
        *,
        is_fresh: Callable[[], bool],
        count_doubts: Callable[[], int],
    ) -> None:
        self._mirrored = mirrored
        self._connection = connection
        self._notifier = notifier
        self._is_fresh = is_fresh
        self._count_doubts = count_doubts
        self._seen: tuple[object, int] | None = None

    async def __anext__(self) -> AccountState:
        while True:
            held = self._mirrored.held
            assert held is not None
            # A reader that was refused a state which was not fresh gets it once it is, even if it is the same state.
            is_new = (
                self._seen is None or self._seen[0] is not held.raw or self._seen[1] != self._count_doubts()
            )
            if is_new and self._is_fresh():
                self._seen = held.raw, self._count_doubts()
                return held.state
            self._connection.raise_end()
            await self._notifier.wait()


class StatusIterator(AsyncIterator[Level]):
    """The iterator of `Account.statuses`."""

    def __init__(self, read: Callable[[], Level], connection: Connection, notifier: Notifier) -> None:
        self._read = read
        self._connection = connection
        self._notifier = notifier
        self._seen: Level | None = None

    async def __anext__(self) -> Level:
        while (status := self._read()) == self._seen:
            self._connection.raise_end()
            await self._notifier.wait()
        self._seen = status
        return status


_Frame = TypeVar("_Frame", Ack, Snooze, Attend)


def _checked(frame: _Frame) -> _Frame:
    """``frame`` when a server would take it; raises ValueError otherwise."""
    try:
        decode_client_frame(encode(frame))
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    return frame

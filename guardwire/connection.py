"""Keeps one link to the server open, through failures of the network, the server, the token and this machine."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import random
import re
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from guardwire import clock, rest
from guardwire.acknowledgements import Acknowledgements, Request
from guardwire.endings import Ending, LinkEnded, replaced, without_token
from guardwire.errors import ConnectionRefused
from guardwire.link import Address, Link, Opening, Transport, TransportName
from guardwire.long_poll import open_long_poll
from guardwire.messages import (
    Ack,
    AckOk,
    Attend,
    Auth,
    Error,
    Leave,
    Move,
    Resync,
    ServerFrame,
    Snooze,
    Welcome,
)
from guardwire.mirror import MirroredAccount, Need, SnapshotRequests
from guardwire.retry import Attempts, Backoff, Outage, TransportChoice
from guardwire.sse import open_event_stream
from guardwire.state import DEFAULT_CHANNELS, ChannelName
from guardwire.timing import Timing
from guardwire.websocket import open_websocket

log = logging.getLogger("guardwire.client")

Token = str | Callable[[], str | Awaitable[str]]
OpenTransport = Callable[[Opening], Awaitable[Transport]]

#: Best first. Each one opens a transport, or raises `LinkEnded`.
TRANSPORTS: Final[Mapping[TransportName, OpenTransport]] = MappingProxyType(
    {"websocket": open_websocket, "sse": open_event_stream, "poll": open_long_poll}
)
#: A token callback that failed is called again no sooner than this.
_TOKEN_PAUSE_SECONDS: Final = 1.0
#: A server that did not say whether it has alerts is asked again after this.
_OFFERS_PAUSE_SECONDS: Final = 5.0
#: The status of a request for a channel that the server does not know.
_UNPROCESSABLE: Final = 422
#: A link that was replaced sooner than this is followed by a pause, so no server can make the client spin.
_SHORT_LIFE_SECONDS: Final = 1.0
#: A client that the server asks to move tries so often to do so while its account does not change.
_MOVE_TRIES: Final = 5


class Notifier:
    """Wakes every task that waits for a change, and keeps nothing for tasks that do not wait.

    A task that looks first and waits afterwards, without an await between, misses no change.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """Wake the tasks that wait now."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait(self) -> None:
        """Wait for the next `notify`."""
        await self._changed.wait()


class TokenSource:
    """Gives a token for each connection; a token is never kept, logged or put in a URL."""

    def __init__(self, token: Token, timing: Timing | None = None) -> None:
        self._token = token
        self._timing = timing or Timing()

    @property
    def has_new_tokens(self) -> bool:
        """Whether another call may give another token."""
        return callable(self._token)

    async def fetch(self) -> str:
        """A token to use now.

        Raises what the callback raises, TimeoutError when it takes 30 s, and TypeError or ValueError when it gives
        something that is no token.
        """
        if not callable(self._token):
            return _check_token(self._token)
        async with asyncio.timeout(self._timing.token_seconds):
            token = self._token()
            if inspect.isawaitable(token):
                token = await token
        return _check_token(token)


def _check_token(token: object) -> str:
    if not isinstance(token, str):
        raise TypeError(f"the token callback gave {type(token).__name__}, not str")
    # A token that was read from a file ends in a line break; a line break inside of it would add a header.
    token = token.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ValueError("the token is empty, or holds characters that no token has")
    return token


class BackgroundTasks:
    """Named tasks beside a link; ``on_failure`` gets every exception that one of them raises."""

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        self._on_failure = on_failure
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start ``work`` unless a task of that ``name`` is running."""
        known = self._tasks.get(name)
        # A task that has ended stays in the dictionary until its callback runs, and must not stop the next one.
        if known is not None and not known.done():
            return
        task = asyncio.get_running_loop().create_task(work(), name=f"guardwire client {name}")
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._remove(name, done))

    async def cancel(self) -> None:
        """Cancel them all and wait until they have ended."""
        tasks = [task for task in self._tasks.values() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _remove(self, name: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._on_failure(failure)


class Connection:
    """Feeds ``mirrored`` and wakes ``notifier``; `run` ends when it is cancelled, or when ``failure`` says why."""

    def __init__(
        self,
        *,
        address: Address,
        tokens: TokenSource,
        channels: tuple[ChannelName, ...],
        transports: Sequence[TransportName],
        tls: ssl.SSLContext | None,
        mirrored: MirroredAccount,
        notifier: Notifier,
        timing: Timing,
    ) -> None:
        self.channels = channels
        self.is_closed = False
        #: The error that ended the connection for good; None while it lasts.
        self.failure: BaseException | None = None
        #: How the last link ended; None before one did.
        self.last_ending: Ending | None = None
        #: The link in use; None while there is none.
        self.link: Link | None = None
        #: Whether the server has the channel `alerts`; None before it said so.
        self.has_alerts: bool | None = None
        #: Acknowledgements and snoozes that the server has not confirmed.
        self.acknowledgements = Acknowledgements()
        self._address = address
        self._tokens = tokens
        self._transports = transports
        self._tls = tls
        self._mirrored = mirrored
        self._notifier = notifier
        self._timing = timing
        self._choice = TransportChoice(len(transports), timing)
        self._attempts = Attempts(self._choice, timing, has_new_tokens=tokens.has_new_tokens)
        self._tasks = BackgroundTasks(self._fail)
        self._pauses = clock.PauseDetector(clock.now())
        self._outage = Outage(clock.now())
        self._snapshots = SnapshotRequests(timing)
        self._retry_now = asyncio.Event()
        self._better_link: Link | None = None
        self._renewed_token: str | None = None
        self._lived_seconds: float | None = None
        self._notified_level = mirrored.level(clock.now())
        self._timer: asyncio.TimerHandle | None = None
        self._said: set[str] = set()

    async def run(self) -> None:
        """Connect, follow the account and reconnect, until cancelled, refused for good, or broken."""
        self._tick()
        try:
            while self.failure is None:
                await self._use_one_link()
        except Exception as failure:
            self._fail(failure)
        finally:
            assert self._timer is not None
            self._timer.cancel()
            if self._better_link is not None:
                self._better_link.abort()
            self._mirrored.note_link_ended()
            self.is_closed = True
            self._notifier.notify()

    def choose(self, channels: tuple[ChannelName, ...]) -> None:
        """Follow these ``channels`` from now on."""
        self.channels = channels
        self._mirrored.late_channels = self.late_channels
        if self.link is not None:
            self._send_channels(self.link)

    def raise_end(self) -> None:
        """End an iterator whose connection has ended; does nothing while it lasts."""
        if self.failure is not None:
            raise self.failure
        if self.is_closed:
            raise StopAsyncIteration

    # Alerts and attendance.

    @property
    def late_channels(self) -> frozenset[str]:
        """The channels that are wanted, and that the server is asked for only once it has offered them."""
        if self.has_alerts is False:
            return frozenset()
        return frozenset(self.channels) - frozenset(DEFAULT_CHANNELS)

    def warn_without_alerts(self) -> None:
        """Warn, once, that the server has no alerts."""
        if self.has_alerts is False:
            self._warn_once("this server has no alerts: it is older than this client")

    def put(self, frame: Ack | Snooze) -> Request:
        """Send ``frame``, which is of one alert, until it is confirmed: now, or after the next reconnect."""
        request = self.acknowledgements.put(frame)
        if self.link is not None and self.link.has_frames:
            self._send_requests(self.link)
        return request

    def attend(self, frame: Attend) -> None:
        """Send ``frame`` at once; a frame that cannot be sent now is dropped."""
        link = self.link
        if link is None or not link.has_frames:
            return
        if not link.takes("attend"):
            why = "this transport carries no frames" if not link.is_in_band else "this server is too old"
            self._warn_once(f"{frame.by} does not attend the account now: {why}")
            return
        self._tasks.start(f"attend {frame.by}", lambda: self._send(link, frame))

    async def leave(self, frame: Leave, *, within_seconds: float) -> None:
        """Send ``frame`` where a link takes it; otherwise the lease ends by itself."""
        link = self.link
        if link is not None and link.takes("leave"):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_seconds):
                    await self._send(link, frame)

    async def finish_requests(self, *, within_seconds: float) -> None:
        """Wait until the server has answered each acknowledgement, or until the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                while self.acknowledgements.are_pending and not self.is_closed:
                    await self._notifier.wait()
        if self.acknowledgements.are_pending:
            log.warning("closed with acknowledgements that the server has not confirmed")

    async def _send(self, link: Link, frame: Attend | Leave) -> None:
        with contextlib.suppress(LinkEnded):
            await link.send(frame)

    def _send_requests(self, link: Link) -> None:
        if self.acknowledgements.due(clock.now()):
            self._tasks.start("requests", lambda: self._send_due(link))

    async def _send_due(self, link: Link) -> None:
        with contextlib.suppress(LinkEnded):
            while due := self.acknowledgements.due(clock.now()):
                await self._send_request(link, due[0])

    async def _send_request(self, link: Link, request: Request) -> None:
        frame = request.frame
        if link.takes("ack" if isinstance(frame, Ack) else "snooze"):
            await link.send(frame)
            request.note_sent(clock.now())
        else:
            # First, so that a token callback that fails is not called twice a second.
            request.note_sent(clock.now())
            opening = self._opening(await self._fetch_token())
            self._take_answer(await rest.answer_to(opening, frame))
        self._notifier.notify()

    def _take_answer(self, frame: ServerFrame) -> None:
        if isinstance(frame, AckOk):
            for alert_id, generation in frame.alerts.items():
                self._mirrored.turns.note_acknowledged(alert_id, generation, frame.revision)
        for request in self.acknowledgements.receive(frame, clock.now()):
            refusal = request.refusal
            assert refusal is not None
            log.warning(
                "the server refused to acknowledge alert %s: %s %s",
                request.alert_id,
                refusal.code,
                refusal.message,
            )

    def _note_offers(self, link: Link, frame: ServerFrame) -> None:
        if isinstance(frame, Welcome):
            self.has_alerts = frame.offers is not None and "alerts" in frame.offers.channels
        if isinstance(frame, Error) and frame.alert is None and not frame.retry:
            self._warn_once(f"the server refused a frame: {frame.code} {frame.message}")
        self._mirrored.late_channels = self.late_channels

    async def _ask_for_offers(self, link: Link) -> None:
        """A long poll brings no welcome, so another request says whether the server has alerts."""
        while self.has_alerts is None:
            try:
                self.has_alerts = await rest.has_alerts(self._opening(await self._fetch_token()))
            except LinkEnded:
                await asyncio.sleep(_OFFERS_PAUSE_SECONDS)
        self._mirrored.late_channels = self.late_channels
        self._send_channels(link)
        self._notifier.notify()

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            log.warning("%s", sentence)

    # One link after another.

    async def _use_one_link(self) -> None:
        self._lived_seconds = None
        try:
            await self._follow(await self._next_link())
            if self._has_lived_shortly():
                raise replaced()
        except LinkEnded as ended:
            self._mirrored.note_link_ended()
            self._notifier.notify()
            await self._pause(self._without_alerts(ended.ending))

    def _without_alerts(self, ending: Ending) -> Ending:
        """``ending``, unless an older node refused a channel that others have: it may serve the others."""
        if ending.code != _UNPROCESSABLE or not self.has_alerts or not self.late_channels:
            return ending
        self.has_alerts = None
        return replaced().ending

    def _has_lived_shortly(self) -> bool:
        return self._lived_seconds is None or self._lived_seconds < _SHORT_LIFE_SECONDS

    async def _next_link(self) -> Link:
        if self._better_link is not None:
            link, self._better_link = self._better_link, None
            return link
        token, self._renewed_token = self._renewed_token or await self._fetch_token(), None
        name = self._transports[self._choice.index]
        return await self._open(name, self._opening(token, name))

    async def _open(self, name: TransportName, opening: Opening) -> Link:
        return Link(name, await TRANSPORTS[name](opening), opening, clock.now())

    def _opening_channels(self, name: TransportName) -> tuple[ChannelName, ...]:
        """The channels to open a link with; those that an older server has not got are asked for after its welcome."""
        if name != "websocket" and self.has_alerts:
            return self.channels
        return tuple(channel for channel in self.channels if channel in DEFAULT_CHANNELS) or ("guards",)

    def _served_channels(self, link: Link) -> tuple[ChannelName, ...]:
        """The channels that ``link`` is to bring now."""
        is_offered = self.has_alerts if not link.is_in_band else link.offers is not None and self.has_alerts
        if is_offered:
            return self.channels
        return self._opening_channels("websocket")

    def _opening(self, token: str, name: TransportName = "websocket") -> Opening:
        channels = self._opening_channels(name)
        wanted = frozenset[str](channels)
        return Opening(
            address=self._address,
            token=token,
            channels=channels,
            resume_point=lambda: self._mirrored.resume_point(wanted),
            tls=self._tls,
            timing=self._timing,
        )

    async def _fetch_token(self) -> str:
        try:
            return await self._tokens.fetch()
        except Exception as error:
            if self._mirrored.held is None:
                # Before the first state `connect` raises it: a bot that starts wrongly should end at once.
                raise
            raise without_token(type(error).__name__) from error

    async def _follow(self, link: Link) -> None:
        """Take frames until the link ends; returns when another link is to be opened at once."""
        self.link = link
        try:
            while True:
                await self._take(link, await link.receive())
        except LinkEnded:
            if not link.is_replaced:
                raise
            # A better link that is open already goes on where this one stops.
            if self._better_link is None:
                self._mirrored.note_link_ended()
        finally:
            self.link = None
            self.acknowledgements.note_link_ended()
            self._lived_seconds = link.lived_seconds(clock.now())
            if self._lived_seconds is not None:
                self._outage.begin(clock.now())
            await self._tasks.cancel()
            await link.close()

    async def _pause(self, ending: Ending) -> None:
        self.last_ending = ending
        delay_seconds = self._attempts.next_delay_seconds(ending, self._lived_seconds)
        if delay_seconds is None:
            problem = self._mirrored.problem
            raise ConnectionRefused(ending.code, ending.reason or (problem.message if problem else "refused"))
        # A person has to mend what blocks a transport; after any other ending the client comes back by itself.
        is_warning = ending.verdict == "blocked" or self._should_warn(ending)
        level = logging.WARNING if is_warning else logging.INFO
        log.log(level, "the link ended (%s %s); next in %.1f s", ending.code, ending.reason, delay_seconds)
        self._retry_now.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_seconds):
                await self._retry_now.wait()

    def _should_warn(self, ending: Ending) -> bool:
        # After a transport that is blocked, another one is tried at once.
        has_failed = self._lived_seconds is None and ending.verdict != "blocked"
        return has_failed and self._outage.should_warn_of_failure(clock.now())

    # One frame after another.

    async def _take(self, link: Link, frame: ServerFrame) -> None:
        now = clock.now()
        is_first = not link.has_frames
        link.note_frame(frame, now)
        self._note_offers(link, frame)
        need = self._mirrored.receive(frame, self._pauses.received_at(now))
        self._take_answer(frame)
        self._settle()
        is_waiting = self._mirrored.mirror.is_waiting
        if self._snapshots.should_request(is_missed=need is Need.SNAPSHOT, is_waiting=is_waiting, now=now):
            await self._request_snapshot(link)
        if need is Need.RENEWAL and self._tokens.has_new_tokens:
            self._tasks.start("token", lambda: self._renew_token(link))
        if is_first:
            self._note_first_frame(link)
        if isinstance(frame, Move) and self._mirrored.held is not None:
            self._tasks.start("move", lambda: self._move(link, frame.within_ms))
        self._notifier.notify()

    def _settle(self) -> None:
        held = self._mirrored.held
        if held is not None and held.state.alerts is not None and not self._mirrored.has_late_channels:
            self.acknowledgements.settle(held.state.alerts)

    def _note_first_frame(self, link: Link) -> None:
        self._attempts.note_first_frame()
        self._outage.end()
        log.info("connected over %s", link.name)
        if self._choice.is_fallback:
            self._tasks.start("return", lambda: self._return_to_best(link))
        self._send_channels(link)
        if self.has_alerts is None and self.late_channels:
            self._tasks.start("offers", lambda: self._ask_for_offers(link))
        self._send_requests(link)

    async def _request_snapshot(self, link: Link) -> None:
        if link.is_in_band:
            await link.send(Resync())
        else:
            link.replace()

    async def _renew_token(self, link: Link) -> None:
        delays = Backoff()
        while True:
            try:
                token = await self._tokens.fetch()
                break
            except Exception as error:
                log.warning("the token callback failed: %s", type(error).__name__)
                await asyncio.sleep(delays.next_seconds(_TOKEN_PAUSE_SECONDS))
        if link.is_in_band:
            with contextlib.suppress(LinkEnded):
                await link.send(Auth(token))
        else:
            self._renewed_token = token
            link.replace()

    def _send_channels(self, link: Link) -> None:
        if link.serves(self._served_channels(link)) or not link.has_frames:
            return
        if link.is_in_band:
            self._tasks.start("channels", lambda: self._update_channels(link))
        else:
            link.replace()

    async def _update_channels(self, link: Link) -> None:
        with contextlib.suppress(LinkEnded):
            await link.send_channels(lambda: self._served_channels(link))

    async def _return_to_best(self, link: Link) -> None:
        """While a fallback serves, try the best transport beside it, and move over once it has brought a frame."""
        better = None
        while better is None:
            await asyncio.sleep(self._choice.next_return_seconds())
            with contextlib.suppress(LinkEnded):
                better = await self._open_beside(
                    self._transports[0],
                    self._opening(await self._fetch_token(), self._transports[0]),
                )
        self._choice.use_best()
        self._better_link = better
        link.replace()

    async def _move(self, link: Link, within_ms: int) -> None:
        """Open another link beside this one, perhaps to another node, and move over if nothing changes meanwhile.

        A new link is kept for a second, so no server can make the client spin.
        """
        for _ in range(_MOVE_TRIES):
            rest_seconds = _SHORT_LIFE_SECONDS - (link.lived_seconds(clock.now()) or 0)
            await asyncio.sleep(max(random.uniform(0, within_ms / 1000), rest_seconds))  # noqa: S311 - no secret
            with contextlib.suppress(LinkEnded):
                other = await self._open_resumed(link.name)
                if other is not None:
                    self._better_link = other
                    link.replace()
                    return

    async def _open_resumed(self, name: TransportName) -> Link | None:
        """A link that was resumed at the revision that this client still holds; None when there is none.

        With any other link the server would have to send a snapshot, and the state would be in doubt until then.
        """
        opening = self._opening(await self._fetch_token(), name)
        held = opening.resume_point()
        other = await self._open_beside(name, msgspec.structs.replace(opening, resume_point=lambda: held))
        if other is None or (other.is_resumed and opening.resume_point() == held):
            return other
        other.abort()
        return None

    async def _open_beside(self, name: TransportName, opening: Opening) -> Link | None:
        """A link that has brought its first frame, beside the one in use; None when that does not come in time."""
        transport = await TRANSPORTS[name](opening)
        try:
            async with asyncio.timeout(self._timing.first_frame_seconds):
                first_frame = await transport.receive()
        except TimeoutError:
            transport.abort()
            return None
        except BaseException:
            transport.abort()
            raise
        return Link(name, transport, opening, clock.now(), first_frame=first_frame)

    # Twice a second.

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(clock.TICK_SECONDS, self._tick)
        now = clock.now()
        paused_seconds = self._pauses.tick(now)
        if paused_seconds >= self._timing.silence_seconds:
            self._start_over()
        elif self.link is not None and not paused_seconds:
            self._check_link(self.link, now)
        if self._outage.should_warn_of_silence(now):
            reason = self.last_ending.reason if self.last_ending else "the server has not answered yet"
            log.warning("not connected after 8 s: %s", reason)
        level = self._mirrored.level(now)
        if level != self._notified_level:
            self._notified_level = level
            self._notifier.notify()

    def _check_link(self, link: Link, now: clock.Instant) -> None:
        if ending := link.find_silence(now):
            link.end(ending)
        elif self._snapshots.should_repeat(now):
            self._tasks.start("snapshot", lambda: self._repeat_request(link))
        elif link.has_frames:
            self._send_requests(link)

    def _start_over(self) -> None:
        """Drop a link from before a long pause of this process: neither it nor its buffers can be trusted."""
        self._attempts.reset_delay()
        self._mirrored.note_link_ended()
        self._retry_now.set()
        if self.link is not None:
            self.link.replace()

    async def _repeat_request(self, link: Link) -> None:
        with contextlib.suppress(LinkEnded):
            await self._request_snapshot(link)

    def _fail(self, failure: BaseException) -> None:
        self.failure = self.failure or failure
        self._retry_now.set()
        if self.link is not None:
            self.link.replace()

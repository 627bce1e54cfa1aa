"""Keeps one link to the server alive, whatever happens to network, server, token or this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Sequence
from typing import Final

from guardwire import clock
from guardwire.address import Address
from guardwire.attempts import Attempts
from guardwire.backoff import Backoff
from guardwire.chores import Chores
from guardwire.ending import Ending, LinkEnded, lost, replaced, tokenless
from guardwire.errors import ConnectionRefused
from guardwire.freshness import BLIND_AFTER_SECONDS
from guardwire.homecoming import first_answer, resumed_link
from guardwire.line import Line
from guardwire.link import Opening
from guardwire.messages import Auth, Move, Resync, ServerFrame, Subscribe, Unsubscribe
from guardwire.outage import Outage
from guardwire.pulse import BEAT_SECONDS, Pulse
from guardwire.session import Ask, Session
from guardwire.signal import Signal
from guardwire.snapshot_wait import SnapshotWait
from guardwire.state import CHANNELS, ChannelName
from guardwire.token import TokenSource
from guardwire.transports import Transport

log = logging.getLogger("guardwire.client")

#: A token that could not be had is asked for again no sooner than this.
_TOKEN_PAUSE_SECONDS: Final = 1.0
#: A link that was replaced so soon is followed by a pause, so that nothing can make this a tight loop.
_REPLACED_SOON_SECONDS: Final = 1.0
#: A client that is asked to move tries so often to do so at a moment at which its account does not change.
_MOVE_TRIES: Final = 5


class Connection:
    """Feeds ``session`` and tells ``signal``; `run` until it is cancelled or ``failure`` says why
    it ended.
    """

    def __init__(
        self,
        *,
        address: Address,
        tokens: TokenSource,
        channels: tuple[ChannelName, ...],
        transports: Sequence[Transport],
        tls: ssl.SSLContext | None,
        session: Session,
        signal: Signal,
    ) -> None:
        self.channels = channels
        self.closed = False
        self.failure: BaseException | None = None
        #: Why the last link ended; None before one did.
        self.last_ending: Ending | None = None
        self.line: Line | None = None
        self._address = address
        self._tokens = tokens
        self._transports = transports
        self._tls = tls
        self._session = session
        self._signal = signal
        self._attempts = Attempts(len(transports), renewable=tokens.renewable)
        self._chores = Chores(self._fail)
        self._pulse = Pulse(clock.now())
        self._outage = Outage(clock.now())
        self._wait = SnapshotWait()
        self._hurry = asyncio.Event()
        self._arrived: Line | None = None
        self._fresh_token: str | None = None
        self._lived_seconds: float | None = None
        self._status_told = session.status(clock.now())
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Connect, follow, reconnect; ends when cancelled, refused for good, or broken."""
        self._beat()
        try:
            while self.failure is None:
                await self._turn()
        except Exception as failure:
            self._fail(failure)
        finally:
            assert self._timer is not None
            self._timer.cancel()
            if self._arrived is not None:
                self._arrived.link.abort()
            self._session.lost()
            self.closed = True
            self._signal.notify()

    def choose(self, channels: tuple[ChannelName, ...]) -> None:
        """Want these ``channels`` from now on."""
        self.channels = channels
        if self.line is not None:
            self._tell_channels(self.line)

    # One link after another.

    async def _turn(self) -> None:
        self._lived_seconds = None
        try:
            await self._follow(await self._next_line())
            if self._lived_shortly():
                raise replaced()
        except LinkEnded as ended:
            self._session.lost()
            self._signal.notify()
            await self._rest(ended.ending)

    def _lived_shortly(self) -> bool:
        return self._lived_seconds is None or self._lived_seconds < _REPLACED_SOON_SECONDS

    async def _next_line(self) -> Line:
        if self._arrived is not None:
            line, self._arrived = self._arrived, None
            return line
        return await self._open()

    async def _open(self) -> Line:
        token, self._fresh_token = self._fresh_token or await self._token(), None
        transport, channels = self._transports[self._attempts.ladder.rung], self.channels
        return Line(await transport.open(self._opening(token, channels)), transport, channels)

    def _opening(self, token: str, channels: tuple[ChannelName, ...]) -> Opening:
        wanted = frozenset[str](channels)
        return Opening(self._address, token, channels, lambda: self._session.resumable(wanted), self._tls)

    async def _token(self) -> str:
        try:
            return await self._tokens.fetch()
        except Exception as error:
            if self._session.held is None:
                # Nobody depends on this client yet: better loud at the start than quiet for ever.
                raise
            log.warning("no token could be had: %s", type(error).__name__)
            raise tokenless() from error

    async def _follow(self, line: Line) -> None:
        """Take frames until the link ends; returns when another one is to be opened at once."""
        self.line = line
        try:
            while True:
                await self._take(line, await line.receive())
        except LinkEnded:
            if not line.replaced:
                raise
            # A better link that is there already continues where this one stops.
            if self._arrived is None:
                self._session.lost()
        finally:
            self.line = None
            self._lived_seconds = line.life.lived_seconds(clock.now())
            if self._lived_seconds is not None:
                self._outage.begin(clock.now())
            await self._chores.cancel()
            await line.link.close()

    async def _rest(self, ending: Ending) -> None:
        self.last_ending = ending
        delay_seconds = self._attempts.ended(ending, self._lived_seconds)
        if delay_seconds is None:
            problem = self._session.problem
            raise ConnectionRefused(ending.code, ending.reason or (problem.message if problem else "refused"))
        # A person must mend what blocks a transport; after any other ending the client returns by itself.
        is_loud = ending.verdict == "blocked" or self._is_worth_a_warning(ending)
        level = logging.WARNING if is_loud else logging.INFO
        log.log(level, "the link ended (%s %s); next in %.1f s", ending.code, ending.reason, delay_seconds)
        self._hurry.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_seconds):
                await self._hurry.wait()

    def _is_worth_a_warning(self, ending: Ending) -> bool:
        # A transport that is blocked is followed by another one at once.
        failed = self._lived_seconds is None and ending.verdict != "blocked"
        return failed and self._outage.warns_of_failure(clock.now())

    # One frame after another.

    async def _take(self, line: Line, frame: ServerFrame) -> None:
        now = clock.now()
        first = not line.life.proved
        line.life.heard(now)
        ask = self._session.receive(frame, self._pulse.received_at(now))
        if self._wait.asks_after(missed=ask is Ask.RESYNC, waiting=self._session.mirror.waiting, now=now):
            await self._resync(line)
        if ask is Ask.REFRESH and self._tokens.renewable:
            self._chores.begin("refresh", lambda: self._refresh(line))
        if first:
            self._prove(line)
        if isinstance(frame, Move) and self._session.held is not None:
            self._chores.begin("move", lambda: self._move(line, frame.within_ms))
        self._signal.notify()

    def _prove(self, line: Line) -> None:
        self._attempts.proved()
        self._outage.end()
        log.info("connected over %s", line.transport.name)
        if self._attempts.ladder.fallen_back:
            self._chores.begin("homecoming", lambda: self._come_home(line))
        self._tell_channels(line)

    async def _resync(self, line: Line) -> None:
        if line.link.in_band:
            await line.link.send(Resync())
        else:
            line.replace()

    async def _refresh(self, line: Line) -> None:
        pauses = Backoff()
        while True:
            try:
                token = await self._tokens.fetch()
                break
            except Exception as error:
                log.warning("no fresh token could be had: %s", type(error).__name__)
                await asyncio.sleep(pauses.next_seconds(_TOKEN_PAUSE_SECONDS))
        if line.link.in_band:
            with contextlib.suppress(LinkEnded):
                await line.link.send(Auth(token))
        else:
            self._fresh_token = token
            line.replace()

    def _tell_channels(self, line: Line) -> None:
        if line.channels == self.channels or not line.life.proved:
            return
        if line.link.in_band:
            self._chores.begin("channels", lambda: self._send_channels(line))
        else:
            line.replace()

    async def _send_channels(self, line: Line) -> None:
        with contextlib.suppress(LinkEnded):
            while line.channels != self.channels:
                told, line.channels = line.channels, self.channels
                if added := _without(line.channels, told):
                    await line.link.send(Subscribe(added))
                if dropped := _without(told, line.channels):
                    await line.link.send(Unsubscribe(dropped))

    async def _come_home(self, line: Line) -> None:
        """While a fallback serves, try the best transport beside it, and move over once it has answered."""
        transport, ladder = self._transports[0], self._attempts.ladder
        answer = None
        while answer is None:
            await asyncio.sleep(ladder.next_return_seconds())
            channels = self.channels
            with contextlib.suppress(LinkEnded):
                answer = await first_answer(transport, self._opening(await self._token(), channels))
        ladder.climb()
        self._go_over(line, Line(answer[0], transport, channels, answer[1]))

    async def _move(self, line: Line, within_ms: int) -> None:
        """Open another link beside this one, maybe to another node, and go over if nothing changes meanwhile.

        A link that is young is kept for a while: nothing that a server sends may make this a tight loop.
        """
        for _ in range(_MOVE_TRIES):
            young_seconds = _REPLACED_SOON_SECONDS - (line.life.lived_seconds(clock.now()) or 0)
            await asyncio.sleep(max(random.uniform(0, within_ms / 1000), young_seconds))  # noqa: S311 - no secret
            channels = self.channels
            with contextlib.suppress(LinkEnded):
                opening = self._opening(await self._token(), channels)
                answer = await resumed_link(line.transport, opening)
                if answer is not None:
                    self._go_over(line, Line(answer[0], line.transport, channels, answer[1]))
                    return

    def _go_over(self, line: Line, arrived: Line) -> None:
        self._arrived = arrived
        line.replace()

    # Beside all that.

    def _beat(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)
        now, line = clock.now(), self.line
        paused_seconds = self._pulse.beat(now)
        if paused_seconds >= BLIND_AFTER_SECONDS:
            self._wake_up(line)
        elif line is not None and not paused_seconds:
            if silence := line.life.silence(now):
                line.cut(lost(silence).ending)
            elif self._wait.asks_again(now):
                self._chores.begin("resync", lambda: self._ask_again(line))
        if self._outage.warns_of_silence(now):
            reason = self.last_ending.reason if self.last_ending else "the server has not answered yet"
            log.warning("not connected after 8 s: %s", reason)
        status = self._session.status(now)
        if status != self._status_told:
            self._status_told = status
            self._signal.notify()

    def _wake_up(self, line: Line | None) -> None:
        """This process did not run for long: no link of before can be trusted, and nothing that
        it buffered.
        """
        self._attempts.forget()
        self._session.lost()
        self._hurry.set()
        if line is not None:
            line.replace()

    async def _ask_again(self, line: Line) -> None:
        with contextlib.suppress(LinkEnded):
            await self._resync(line)

    def _fail(self, failure: BaseException) -> None:
        self.failure = self.failure or failure
        self._hurry.set()
        if self.line is not None:
            self.line.replace()


def _without(channels: Sequence[str], others: Sequence[str]) -> tuple[ChannelName, ...]:
    return tuple(channel for channel in CHANNELS if channel in channels and channel not in others)

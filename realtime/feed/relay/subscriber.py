"""A node's side of the relay: subscribes to the channels of the watched accounts and of the canary."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from queries.delta import authenticated
from realtime.feed.connection import DATABASE_ERRORS
from realtime.feed.relay import messages
from realtime.feed.relay.link import LINK_ERRORS, Address, Link
from realtime.feed.relay.subscriptions import Subscriptions
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

#: The name of the connection in CLIENT LIST.
NAME: Final = "guardwire-node"
#: A connection on which no canary arrives for so long is replaced, because it may be half open, or lead to a server
#: that has become a replica. The time doubles until a canary arrives.
_SILENT_SECONDS: Final = 5.0
_MOST_SILENT_SECONDS: Final = 40.0
_LOOK_SECONDS: Final = 0.5
_AGAIN_SECONDS: Final = 0.5
#: Accounts in one SUBSCRIBE.
_AT_ONCE: Final = 1000
#: Messages that wait for the secret to be read again; beyond that they count as forged at once.
_MOST_SUSPICIOUS: Final = 1000
_READ_AGAIN_SECONDS: Final = 1.0


class Subscriber:
    """Calls ``on_text(account, text)`` for each authentic message about an account, ``on_canary()`` for each canary
    that is newer than the one before, and ``on_lost()`` when the connection is lost.
    """

    def __init__(
        self,
        *,
        redis_url: str,
        subscriptions: Subscriptions,
        on_text: Callable[[str, str], None],
        on_canary: Callable[[], None],
        on_lost: Callable[[], None],
        read_secret: Callable[[], Awaitable[bytes]],
    ) -> None:
        """``read_secret`` gives the secret that authenticates messages, and may raise an error of the database."""
        self._address = Address.of(redis_url)
        self._channels = messages.Channels(self._address.database)
        self._subscriptions = subscriptions
        self._on_text = on_text
        self._on_canary = on_canary
        self._on_lost = on_lost
        self._read_secret = read_secret
        self._secret = b""
        self._suspicious: list[tuple[str, str]] = []
        self._is_suspicious = asyncio.Event()
        self._last_canary = (0, 0)
        self._heard_at = 0.0
        self._silent_seconds = _SILENT_SECONDS
        self._was_reported = False

    async def run(self) -> None:
        """Stay subscribed for ever, and replace a lost or silent connection."""
        while True:
            try:
                self._secret = self._secret or await self._read_secret()
                await self._serve()
            except (*LINK_ERRORS, *DATABASE_ERRORS) as error:
                self._report_lost(error)
            finally:
                self._on_lost()
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _serve(self) -> None:
        link = await Link.open(self._address, name=NAME, on_reply=self._take)
        try:
            self._subscriptions.start_again()
            self._send_changes(link)
            # The canary comes last: a node that hears it is subscribed to all of its accounts.
            link.send([("SUBSCRIBE", self._channels.canary)])
            self._heard_at, self._last_canary = time.monotonic(), (0, 0)
            async with _beside(self._follow_changes(link), self._judge_again()):
                while not link.lost.done():
                    await asyncio.wait([link.lost], timeout=_LOOK_SECONDS)
                    self._check_silence()
            raise ConnectionResetError
        finally:
            link.close()

    async def _follow_changes(self, link: Link) -> None:
        while True:
            await self._subscriptions.changed()
            self._send_changes(link)

    def _send_changes(self, link: Link) -> None:
        for command, accounts in zip(("SUBSCRIBE", "UNSUBSCRIBE"), self._subscriptions.take(), strict=True):
            for start in range(0, len(accounts), _AT_ONCE):
                link.send([(command, *map(self._channels.of, accounts[start : start + _AT_ONCE]))])

    def _check_silence(self) -> None:
        if time.monotonic() - self._heard_at > self._silent_seconds:
            self._silent_seconds = min(2 * self._silent_seconds, _MOST_SILENT_SECONDS)
            raise TimeoutError

    def _take(self, reply: Any) -> None:
        """Take a push of Redis; other replies confirm subscriptions."""
        if isinstance(reply, list) and reply[0] == b"message":
            channel, message = reply[1].decode(), reply[2].decode(errors="replace")
            text = authenticated(self._secret, message)
            if text is not None:
                self._take_text(channel, text)
            elif len(self._suspicious) < _MOST_SUSPICIOUS:
                self._suspicious.append((channel, message))
                self._is_suspicious.set()
            else:
                METRICS.forged_notifications.add()
        elif isinstance(reply, Exception):
            # A user of Redis that may not subscribe. The text may quote a command.
            self._report_lost(PermissionError(str(reply).partition(" ")[0]))

    def _take_text(self, channel: str, text: str) -> None:
        if channel != self._channels.canary:
            self._on_text(self._channels.account_of(channel), text)
            return
        place = messages.parse_canary(text)
        if place is not None and place > self._last_canary:
            self._last_canary = place
            self._heard_at, self._silent_seconds, self._was_reported = (
                time.monotonic(),
                _SILENT_SECONDS,
                False,
            )
            self._on_canary()

    async def _judge_again(self) -> None:
        """Read the secret again when messages were not authentic, once a second at most: `guardwire rotate-channel` may
        have replaced it.
        """
        while True:
            await self._is_suspicious.wait()
            with contextlib.suppress(*DATABASE_ERRORS):
                self._secret = await self._read_secret()
            self._is_suspicious.clear()
            suspicious, self._suspicious = self._suspicious, []
            forged = 0
            for channel, message in suspicious:
                text = authenticated(self._secret, message)
                if text is None:
                    forged += 1
                else:
                    self._take_text(channel, text)
            if forged:
                METRICS.forged_notifications.add(forged)
                log.error(
                    "messages of the relay were not authentic (%d); a sweep finds what they may have replaced",
                    forged,
                )
                await asyncio.sleep(_READ_AGAIN_SECONDS)

    def _report_lost(self, error: BaseException) -> None:
        if not self._was_reported:
            log.warning("the relay's Redis is out of reach: %s", str(error) or type(error).__name__)
        self._was_reported = True


@contextlib.asynccontextmanager
async def _beside(*works: Any) -> AsyncIterator[None]:
    """Run endless coroutines while the context lasts."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""LISTEN: receives deltas, change notices and the wake-ups of the applier on a connection of its own.

A canary proves that the connection receives notifications.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final
from uuid import UUID

import asyncpg

from queries.search_path import connect
from realtime.feed.connection import DATABASE_ERRORS
from realtime.feed.trouble import Trouble
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

#: The name of the connection, by which the applier sees whether a node listens.
LISTENER_NAME: Final = "guardwire listener"
#: Change notices: `user=revision` items.
NOTICE_CHANNEL: Final = "guardwire"
#: Wakes the applier; the payload is empty.
INBOX_CHANNEL: Final = "guardwire_inbox"
_CONFIGURATION: Final = "SELECT delta_channel, delta_secret FROM guardwire.configuration"
_SEND: Final = "SELECT pg_notify(delta_channel, $1) FROM guardwire.configuration"
_CANARY: Final = "canary="
_CANARY_SECONDS: Final = 5.0
_CANARY_DEADLINE_SECONDS: Final = 2.0
_CONNECT_SECONDS: Final = 2.0
_RECONNECT_SECONDS: Final = 0.25
_LOOK_SECONDS: Final = 0.1
_PART: Final = "the listener"


def parse_notices(payload: str) -> Iterator[tuple[str, str]]:
    """The ``name=value`` items of a change notice. Any login may send one, so text of any other form is ignored."""
    for item in payload.split(","):
        name, separator, value = item.partition("=")
        if separator:
            yield name, value


class Listener:
    """Calls ``on_deltas(notification)`` for deltas, ``on_notice(account, revision)`` for each change notice,
    ``on_inbox()`` when rows may wait, and ``on_hearing(bool)`` when the listener begins or ceases to receive
    notifications.

    A notification may be late, lost, doubled or forged. ``on_secret`` gets the secret that authenticates deltas. Deltas
    and notices of the backend that ``is_own`` names are skipped, because this process has published them already.
    """

    def __init__(
        self,
        *,
        database_url: str,
        on_deltas: Callable[[str], None],
        on_notice: Callable[[UUID, int], None],
        on_inbox: Callable[[], None],
        on_secret: Callable[[bytes], None],
        on_hearing: Callable[[bool], None],
        is_own: Callable[[int], bool] = lambda _: False,
        send_canary: Callable[[str], Awaitable[object]] | None = None,
        canary_seconds: float = _CANARY_SECONDS,
        trouble: Trouble | None = None,
    ) -> None:
        """``send_canary`` sends a payload on the delta channel over another connection, as the applier does.

        Without it the listener sends on its own connection, which behind a pooler proves nothing.
        """
        self._database_url = database_url
        self._on_deltas = on_deltas
        self._on_notice = on_notice
        self._on_inbox = on_inbox
        self._on_secret = on_secret
        self._on_hearing = on_hearing
        self._is_own = is_own
        self._send_canary = send_canary
        self._canary_seconds = canary_seconds
        self._trouble = trouble or Trouble()
        self._expected = ""
        self._delta_channel = ""
        self._heard = asyncio.Event()
        self._reported_deaf = False
        #: The backend of the connection; None without a connection.
        self.backend_pid: int | None = None

    async def run(self) -> None:
        """Listen for ever, and replace a lost connection."""
        while True:
            try:
                await self._listen()
            except DATABASE_ERRORS as error:
                self._trouble.report(_PART, error)
            finally:
                self._set_hearing(False)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> None:
        connection = await connect(
            self._database_url, timeout=_CONNECT_SECONDS, settings={"application_name": LISTENER_NAME}
        )
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        self.backend_pid = connection.get_server_pid()
        try:
            self._delta_channel, secret = await connection.fetchrow(_CONFIGURATION)
            self._on_secret(secret)
            await connection.add_listener(self._delta_channel, self._on_delta_channel)
            await connection.add_listener(INBOX_CHANNEL, lambda *_: self._on_inbox())
            # This statement comes last, because the database's statistics show the last statement of a connection, and
            # the name of the delta channel is secret.
            await connection.add_listener(NOTICE_CHANNEL, self._on_notice_channel)
            self._trouble.end(_PART)
            while not ended.is_set() and await self._hears(connection):
                self._set_hearing(True)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._canary_seconds):
                        await ended.wait()
        finally:
            self.backend_pid = None
            connection.terminate()

    async def _hears(self, connection: asyncpg.Connection[Any]) -> bool:
        """Whether a notification to ourselves comes back.

        A half-open connection looks alive and receives nothing. The same holds for a connection that listens to the old
        name of the delta channel after `guardwire rotate-channel`.
        """
        self._expected = _CANARY + secrets.token_hex(8)
        self._heard.clear()
        if self._send_canary is None:
            await connection.execute(_SEND, self._expected)
        else:
            await self._send_canary(self._expected)
        sent_at = time.monotonic()
        try:
            async with asyncio.timeout(_CANARY_DEADLINE_SECONDS):
                await self._heard.wait()
        except TimeoutError:
            if await self._is_renamed(connection):
                log.info("the delta channel was rotated")
                return False
            METRICS.canary_misses.add()
            self._report_deaf()
            return False
        METRICS.canary_round_trip.set(time.monotonic() - sent_at)
        return True

    async def _is_renamed(self, connection: asyncpg.Connection[Any]) -> bool:
        """Whether deltas are published on another channel than the one that this connection listens to."""
        found, _ = await connection.fetchrow(_CONFIGURATION, timeout=_CANARY_DEADLINE_SECONDS)
        return bool(found != self._delta_channel)

    def _on_delta_channel(self, _connection: object, pid: int, _channel: str, payload: object) -> None:
        notification = str(payload)
        if not notification.startswith(_CANARY):
            if not self._is_own(pid):
                self._on_deltas(notification)
        elif notification == self._expected:
            self._heard.set()

    def _on_notice_channel(self, _connection: object, pid: int, _channel: str, payload: object) -> None:
        if self._is_own(pid):
            return
        for name, value in parse_notices(str(payload)):
            try:
                user_id, revision = UUID(name), int(value)
            except ValueError:
                continue
            self._on_notice(user_id, revision)

    def _report_deaf(self) -> None:
        """Log once, until a notification arrives again, that the connection receives none."""
        if not self._reported_deaf:
            log.warning(
                "PostgreSQL takes LISTEN, but no notification comes back: every change now waits for a sweep."
                " If this address is a pooler's such as pgbouncer, set LISTEN_DATABASE_URL to PostgreSQL's"
                " own."
            )
        self._reported_deaf = True

    def _set_hearing(self, hearing: bool) -> None:
        if hearing and self._reported_deaf:
            log.warning("notifications are heard again")
            self._reported_deaf = False
        METRICS.listener_up.set(float(hearing))
        self._on_hearing(hearing)


async def listen_while(wanted: Callable[[], bool], listener: Listener) -> None:
    """Run ``listener`` while ``wanted()`` is true, for ever: in relay mode most nodes do not listen."""
    listening: asyncio.Task[None] | None = None
    try:
        while True:
            if listening is not None and listening.done():
                listening.result()
            if wanted() and listening is None:
                listening = asyncio.create_task(listener.run(), name="listener")
            elif not wanted() and listening is not None:
                listening.cancel()
                await asyncio.wait([listening])
                listening = None
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        if listening is not None:
            listening.cancel()
            await asyncio.wait([listening])

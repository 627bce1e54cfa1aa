"""LISTEN: hints of which accounts changed, on a connection of its own, with a canary that proves that it
hears.
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

from realtime.feed.connection import DATABASE_ERRORS
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

NOTIFY_CHANNEL: Final = "guardwire"
NOTIFY: Final = "SELECT pg_notify($1, $2)"
_CANARY: Final = "canary"
_CANARY_SECONDS: Final = 5.0
_CANARY_DEADLINE_SECONDS: Final = 2.0
_CONNECT_SECONDS: Final = 2.0
_RECONNECT_SECONDS: Final = 0.25


def parse_payload(payload: str) -> Iterator[tuple[str, str]]:
    """The ``name=value`` items of a notification; anybody may have sent it, so whatever is not one is left
    out.
    """
    for item in payload.split(","):
        name, separator, value = item.partition("=")
        if separator:
            yield name, value


class Listener:
    """Calls ``on_hint(account, revision)`` for every notification, and ``on_hearing(bool)`` when hearing is
    gained or lost.

    A hint may be late, lost, doubled or forged: it only ever makes somebody look.
    """

    def __init__(
        self,
        *,
        database_url: str,
        on_hint: Callable[[UUID, int], None],
        on_hearing: Callable[[bool], None],
        notify: Callable[[str, str], Awaitable[object]] | None = None,
        canary_seconds: float = _CANARY_SECONDS,
    ) -> None:
        """``notify`` sends a payload to a notify channel over another connection, as writers do; without it
        the listener's own has to do, through which a pooler would let the answer pass.
        """
        self._database_url = database_url
        self._on_hint = on_hint
        self._on_hearing = on_hearing
        self._notify = notify
        self._canary_seconds = canary_seconds
        self._expected = ""
        self._heard = asyncio.Event()
        self._told_deaf = False

    async def run(self) -> None:
        """For ever; a lost connection is made again."""
        while True:
            try:
                await self._listen()
            except DATABASE_ERRORS as error:
                log.info("the listener's connection ended: %s", type(error).__name__)
            finally:
                self._hearing(False)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(
            self._database_url,
            timeout=_CONNECT_SECONDS,
            server_settings={"application_name": "guardwire listener"},
        )
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        try:
            await connection.add_listener(NOTIFY_CHANNEL, self._on_notification)
            while not ended.is_set() and await self._hears(connection):
                self._hearing(True)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._canary_seconds):
                        await ended.wait()
        finally:
            connection.terminate()

    async def _hears(self, connection: asyncpg.Connection[Any]) -> bool:
        """Whether a notification to ourselves comes back: a half-open connection looks alive but hears
        nothing.
        """
        self._expected = secrets.token_hex(8)
        self._heard.clear()
        asked_at, sent = time.monotonic(), False
        canary = f"{_CANARY}={self._expected}"
        try:
            async with asyncio.timeout(_CANARY_DEADLINE_SECONDS):
                if self._notify is None:
                    await connection.execute(NOTIFY, NOTIFY_CHANNEL, canary)
                else:
                    await self._notify(NOTIFY_CHANNEL, canary)
                sent = True
                await self._heard.wait()
        except TimeoutError:
            METRICS.canary_misses.add()
            if sent:
                self._say_deaf()
            return False
        METRICS.canary_round_trip.set(time.monotonic() - asked_at)
        return True

    def _on_notification(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        for name, value in parse_payload(str(payload)):
            if name == _CANARY:
                if value == self._expected:
                    self._heard.set()
                continue
            try:
                user_id, revision = UUID(name), int(value)
            except ValueError:
                continue
            self._on_hint(user_id, revision)

    def _say_deaf(self) -> None:
        """Once until something is heard again: it connects, and hears nothing."""
        if not self._told_deaf:
            log.warning(
                "PostgreSQL takes LISTEN, but no notification comes back: every change now waits for a sweep."
                " If this address is a pooler's such as pgbouncer, set LISTEN_DATABASE_URL to PostgreSQL's"
                " own."
            )
        self._told_deaf = True

    def _hearing(self, hearing: bool) -> None:
        if hearing and self._told_deaf:
            log.warning("notifications are heard again")
            self._told_deaf = False
        METRICS.listener_up.set(float(hearing))
        self._on_hearing(hearing)

"""LISTEN: what commits tell of themselves, and hints of which accounts changed, on a connection of its own,
with a canary that proves that it hears.
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
_TOLD_CHANNEL: Final = "SELECT told_channel, told_secret FROM guardwire.configuration"
_SEND: Final = "SELECT pg_notify(told_channel, $1) FROM guardwire.configuration"
_CANARY: Final = "canary="
_CANARY_SECONDS: Final = 5.0
_CANARY_DEADLINE_SECONDS: Final = 2.0
_CONNECT_SECONDS: Final = 2.0
_RECONNECT_SECONDS: Final = 0.25


def parse_payload(payload: str) -> Iterator[tuple[str, str]]:
    """The ``name=value`` items of a hint; anybody may have sent it, so whatever is not one is left out."""
    for item in payload.split(","):
        name, separator, value = item.partition("=")
        if separator:
            yield name, value


class Listener:
    """Calls ``on_told(payload, secret)`` for what a commit told, with the secret of its codes,
    ``on_hint(account, revision)`` for every hint, and ``on_hearing(bool)`` when hearing is gained or lost.

    A hint may be late, lost, doubled or forged: it only ever makes somebody look.
    """

    def __init__(
        self,
        *,
        database_url: str,
        on_told: Callable[[str, bytes], None],
        on_hint: Callable[[UUID, int], None],
        on_hearing: Callable[[bool], None],
        send_canary: Callable[[str], Awaitable[object]] | None = None,
        canary_seconds: float = _CANARY_SECONDS,
    ) -> None:
        """``send_canary`` sends a payload to where commits tell of themselves over another connection, as
        writers do; without it the listener's own has to do, through which a pooler would let the answer pass.
        """
        self._database_url = database_url
        self._on_told = on_told
        self._on_hint = on_hint
        self._on_hearing = on_hearing
        self._send_canary = send_canary
        self._canary_seconds = canary_seconds
        self._expected = ""
        self._told_channel, self._told_secret = "", b""
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
            self._told_channel, self._told_secret = await connection.fetchrow(_TOLD_CHANNEL)
            await connection.add_listener(self._told_channel, self._on_telling)
            # Last, because the last statement of a connection is what the database's statistics show of it.
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
        nothing, nor does one that listens to a channel of another name than commits tell on by now.
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
                log.info("the channel that commits tell on has another name by now")
                return False
            METRICS.canary_misses.add()
            self._say_deaf()
            return False
        METRICS.canary_round_trip.set(time.monotonic() - sent_at)
        return True

    async def _is_renamed(self, connection: asyncpg.Connection[Any]) -> bool:
        """Whether commits send to another channel than this one hears, as after a rotation."""
        found = await connection.fetchval(_TOLD_CHANNEL, timeout=_CANARY_DEADLINE_SECONDS)
        return bool(found != self._told_channel)

    def _on_telling(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        told = str(payload)
        if not told.startswith(_CANARY):
            self._on_told(told, self._told_secret)
        elif told == self._expected:
            self._heard.set()

    def _on_notification(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        for name, value in parse_payload(str(payload)):
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

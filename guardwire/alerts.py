"""The alerts of an account as a bot takes them, one after another, and acts on them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from guardwire.connection import Connection, Notifier
from guardwire.messages import Action
from guardwire.mirror import MirroredAccount
from guardwire.state import Alert, Position
from guardwire.turns import AlertReader

log = logging.getLogger("guardwire.client")

#: How often a bot that waits for an alert says that it attends.
_IDLE_SECONDS: Final = 1.0
#: Kinds of alerts that are about the watch itself, and not about positions.
_OF_THE_WATCH: Final = frozenset({"unattended", "delivery"})
_EVERY_SYMBOL: Final = "*"


class Desk(Protocol):
    """The account of an `OpenAlert`."""

    async def acknowledge(self, alert: OpenAlert, action: Action = "received") -> None:
        """Acknowledge it, and wait until that is committed."""

    async def note_action(self, alert: OpenAlert, action: Action) -> None:
        """Acknowledge it without a wait for the answer."""


class OpenAlert(Alert, frozen=True, kw_only=True):
    """One alert as it was when the iterator gave it out: the fields of `guardwire.state.Alert`, and its ``id``."""

    id: str
    desk: Desk

    @property
    def is_over(self) -> bool:
        """Whether its condition is over, so that it only has to be acknowledged."""
        return self.resolved_at is not None

    def concerns(self, position: Position) -> bool:
        """Whether the alert speaks of ``position``.

        A market alert speaks of its symbol, which may be decorated by the broker; ``unattended`` and ``delivery`` speak
        of no position; every other kind, known or not, speaks of all.
        """
        if self.kind != "market":
            return self.kind not in _OF_THE_WATCH
        named = (self.symbol or _EVERY_SYMBOL).upper()
        return named in (_EVERY_SYMBOL, (position.symbol or "").upper(), position.instrument)

    @asynccontextmanager
    async def acting(self) -> AsyncIterator[None]:
        """Acknowledge with ``acting`` on entry, and with ``done`` on a clean exit.

        No answer of the server is awaited, so a link that is down does not keep the bot from acting. After an exception
        nothing more is acknowledged: the alert escalates once its hold is over. The exception goes on to the caller.
        """
        await self.desk.note_action(self, "acting")
        try:
            yield
        except BaseException as error:
            # Its message may hold a secret of the broker's.
            log.error(
                "acting on alert %s (%s %s) failed with %s: it will escalate",
                self.id,
                self.kind,
                self.subject,
                type(error).__name__,
            )
            raise
        await self.desk.note_action(self, "done")


class AlertIterator(AsyncIterator[OpenAlert]):
    """The iterator of `guardwire.Account.alerts`."""

    def __init__(
        self,
        mirrored: MirroredAccount,
        connection: Connection,
        notifier: Notifier,
        *,
        desk: Desk,
        reader: AlertReader,
        beat: Callable[[], None] | None,
    ) -> None:
        self._mirrored = mirrored
        self._connection = connection
        self._notifier = notifier
        self._desk = desk
        self._reader = reader
        self._beat = beat

    async def __anext__(self) -> OpenAlert:
        while True:
            if self._beat is not None:
                self._beat()
            found = self._take()
            if found is not None:
                return found
            self._connection.raise_end()
            self._connection.warn_without_alerts()
            await self._wait()

    def _take(self) -> OpenAlert | None:
        held = self._mirrored.held
        # While the link has not brought the channel, the state has it as it was: an alert may be over by now, and is
        # given out all the same. A bot looks at the state's freshness before it acts.
        if held is None or held.state.alerts is None:
            return None
        found = self._reader.take(held.state.alerts)
        if found is None:
            return None
        alert_id, alert = found
        return OpenAlert(id=alert_id, desk=self._desk, **_fields_of(alert))

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(None if self._beat is None else _IDLE_SECONDS):
                await self._notifier.wait()
        except TimeoutError:
            return


def _fields_of(alert: Alert) -> dict[str, Any]:
    return {name: getattr(alert, name) for name in alert.__struct_fields__}

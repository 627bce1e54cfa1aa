"""The demo's example bot: it attends an account, and closes positions when an alert says so.

It uses the public client as `examples/close_on_guard.py` does, over a connection of its own to the server.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from guardwire import Account, OpenAlert, connect

log = logging.getLogger(__name__)

NAME: Final = "example-bot"
_LEASE_SECONDS: Final = 15
_MOST_SHOWN: Final = 5

#: Closes the position of a ticket at the broker; closing a closed one does no harm.
Close = Callable[[str], Awaitable[None]]


class Acted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An alert that the bot acted on, and how many positions it closed."""

    at: datetime
    kind: str
    subject: str
    closed: int
    symbol: str | None = None
    condition_type: str | None = None
    observed: float | None = None


class ExampleBot:
    """The bot, which can be started and stopped any number of times."""

    def __init__(self, *, token: Callable[[], str], close: Close) -> None:
        self._token = token
        self._close = close
        self._running: asyncio.Task[None] | None = None
        #: The newest alerts that it acted on, newest first.
        self.acted: deque[Acted] = deque(maxlen=_MOST_SHOWN)

    @property
    def is_running(self) -> bool:
        """Whether it has been started, and has not ended."""
        return self._running is not None and not self._running.done()

    def start(self, url: str) -> None:
        """Attend from now on; does nothing while it runs."""
        if not self.is_running:
            self._running = asyncio.create_task(self._run(url), name="example bot")

    async def stop(self) -> None:
        """End it as Ctrl-C ends a bot: it says goodbye, and nobody attends."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.wait([running])

    async def _run(self, url: str) -> None:
        try:
            await self._attend(url)
        except Exception:
            log.exception("the example bot ended; it can be started again on the page")

    async def _attend(self, url: str) -> None:
        channels = ["positions", "alerts"]
        async with (
            connect(url, token=self._token, channels=channels) as account,
            account.attend(NAME, lease_seconds=_LEASE_SECONDS) as beat,
        ):
            async for alert in account.alerts(beat=beat):
                await self._act(account, alert, beat)

    async def _act(self, account: Account, alert: OpenAlert, beat: Callable[[], None]) -> None:
        async with alert.acting():
            await account.until_fresh()
            tickets = _to_close(account, alert)
            for ticket in tickets:
                await self._close(ticket)
                beat()
        self.acted.appendleft(_acted(alert, len(tickets)))


def _to_close(account: Account, alert: OpenAlert) -> list[str]:
    """The tickets of the open positions that an alert speaks of; none when it is over by now."""
    alerts, book = account.state.alerts, account.state.positions
    now = alerts.open.get(alert.id) if alerts else None
    if now is None or now.resolved_at is not None or book is None:
        return []
    open_positions = {**book.open, **(book.unmatched or {})}
    return [ticket for ticket, position in open_positions.items() if alert.concerns(position)]


def _acted(alert: OpenAlert, closed: int) -> Acted:
    return Acted(
        at=datetime.now(UTC),
        kind=alert.kind,
        subject=alert.subject,
        closed=closed,
        symbol=alert.symbol,
        condition_type=alert.condition_type,
        observed=alert.observed,
    )

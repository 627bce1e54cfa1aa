"""The relay's parts of one node: its publisher, its subscriber, and what it hears."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from realtime.feed.connection import KeptConnection
from realtime.feed.relay.publisher import Publisher
from realtime.feed.relay.reception import LISTEN_SECONDS, Reception
from realtime.feed.relay.subscriber import Subscriber
from realtime.feed.relay.subscriptions import Subscriptions
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.1
_KEY_STATEMENT: Final = "SELECT delta_secret FROM guardwire.configuration"


class Relay:
    """Calls ``on_text(account, text)`` for each message about a watched account, and ``on_hearing(bool)``, ten times a
    second, with whether changes reach this node.
    """

    def __init__(
        self,
        *,
        redis_url: str,
        name: str,
        subscriptions: Subscriptions,
        engine: AsyncEngine,
        on_text: Callable[[str, str], None],
        on_hearing: Callable[[bool], None],
        falls_back: str,
    ) -> None:
        """``falls_back`` says in the log what this node does while it does not hear the relay."""
        self._falls_back = falls_back
        self._engine = engine
        self._on_hearing = on_hearing
        self._reception = Reception(time.monotonic())
        self._was_reported = False
        self.publisher = Publisher(redis_url=redis_url, name=name)
        self._subscriber = Subscriber(
            redis_url=redis_url,
            subscriptions=subscriptions,
            on_text=on_text,
            on_canary=lambda: self._reception.take_canary(time.monotonic()),
            on_lost=self._reception.lose_relay,
            read_secret=self._read_secret,
        )

    def tasks(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """The endless tasks of the relay, each with its name."""
        return [
            ("relay", self.publisher.run),
            ("subscribe", self._subscriber.run),
            ("hear", self._look),
        ]

    def set_listening(self, hears: bool) -> None:
        """The listener began or ceased to receive notifications."""
        self._reception.set_listening(time.monotonic(), hears=hears)

    def is_listening(self) -> bool:
        """Whether the listener receives notifications."""
        return self._reception.is_listening

    def wants_listener(self) -> bool:
        """Whether this node has to listen, because it has not heard the relay for too long."""
        return self._reception.wants_listener(time.monotonic())

    async def _look(self) -> None:
        while True:
            now = time.monotonic()
            METRICS.relay_heard.set(float(self._reception.is_relayed(now)))
            self._on_hearing(self._reception.is_hearing(now))
            self._report(self._reception.wants_listener(now))
            await asyncio.sleep(_LOOK_SECONDS)

    def _report(self, is_unheard: bool) -> None:
        if is_unheard and not self._was_reported:
            log.warning(
                "the relay was not heard for %g s: this node %s instead", LISTEN_SECONDS, self._falls_back
            )
        elif self._was_reported and not is_unheard:
            log.warning("the relay is heard again")
        self._was_reported = is_unheard

    async def _read_secret(self) -> bytes:
        borrowed = KeptConnection(self._engine)
        try:
            async with borrowed.driver() as driver:
                return await driver.fetchval(_KEY_STATEMENT)  # type: ignore[no-any-return]
        finally:
            await borrowed.close()

"""The parts between the outbox and those who are to be reached, made once for a node."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from realtime.escalation import addresses, people
from realtime.escalation.deliverer import Deliverer, Trouble
from realtime.escalation.outbound import OutboundRequests
from realtime.escalation.outbox import Connection, DatabaseOutbox
from realtime.escalation.people import PeopleSender
from realtime.escalation.watchdog import Watchdog
from realtime.escalation.webhook import WebhookSender
from realtime.settings import Settings

Task = tuple[str, Callable[[], Awaitable[None]]]

#: A part that succeeded within this time counts as working, for the watchdog.
WORKED_SECONDS: Final = 30.0


class Escalation:
    """The tasks that send alerts, and call the watchdog's URL where there is one."""

    def __init__(
        self,
        *,
        settings: Settings,
        connection: Connection,
        node: str,
        trouble: Trouble,
        problem: Callable[[], str | None],
    ) -> None:
        """``node`` names this process among those that claim; ``problem`` says why the feed does not work, or None."""
        self._connection = connection
        self._feed_problem = problem
        self._watchdog_url = settings.watchdog_url
        allow_private = self._allow_private = settings.webhook_allow_private
        requests = OutboundRequests(allow_private=allow_private)
        self.deliverer = Deliverer(
            outbox=DatabaseOutbox(connection=connection, node=node),
            senders={
                "webhook": WebhookSender(requests).send,
                "person": PeopleSender(allow_private=allow_private).send,
            },
            trouble=trouble,
        )

    def tasks(self) -> Iterator[Task]:
        """The endless tasks of this part, each with its name."""
        yield "escalation", self.deliverer.run
        if self._watchdog_url:
            # The operator chose this URL, and the node calls itself.
            watchdog = Watchdog(
                url=self._watchdog_url,
                problem=self.problem,
                requests=OutboundRequests(allow_private=True),
            )
            yield "watchdog", watchdog.run

    def url_problem(self, kind: str, url: str) -> str | None:
        """Why an endpoint of ``kind`` (`webhook` or `person`) cannot have this URL, as a clause; None when it can."""
        if kind == "person":
            return people.url_problem(url)
        return addresses.url_problem(url, allow_private=self._allow_private)

    def problem(self) -> str | None:
        """Why this node does not do its whole work; None when it does."""
        if time.monotonic() - self.deliverer.claimed_at > WORKED_SECONDS:
            return "the outbox has not been read lately"
        if self.deliverer.age_seconds > WORKED_SECONDS:
            return "alerts wait to be sent"
        return self._feed_problem()

    async def close(self) -> None:
        """Give the connection back to the pool; the tasks have ended before."""
        await self._connection.close()

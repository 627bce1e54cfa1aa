"""Connects the demo's bot, its receiver and the simulated platform, and arms the account that they are about."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
from starlette.routing import BaseRoute

from auth.development import DevelopmentKey
from auth.identity import ACK_SCOPE
from queries.alert_calls import (
    delete_endpoint,
    list_endpoints,
    put_endpoint,
    put_escalation,
    set_arming,
)
from realtime.delivery.http.parameters import Authenticate
from realtime.demo.bot import ExampleBot
from realtime.demo.receiver import Receiver
from realtime.demo.routes import PERSON_PATH, WEBHOOK_PATH, DemoRoutes
from realtime.escalation import people
from realtime.simulator import Orders

#: Seconds, short enough to see each of them pass.
POLICY: Final = {
    "grace_seconds": 4,
    "webhook_after_seconds": 3,
    "people_after_seconds": 6,
    "repeat_seconds": 10,
    "slow_repeat_seconds": 60,
    "give_up_seconds": 600,
    "hold_seconds": 30,
    "flap_seconds": 10,
}
_NAME: Final = "demo"
#: The description of the demo's endpoints. Those of an earlier demo are removed: their port and secret are gone.
_DESCRIPTION: Final = "the demo's receiver"
_BROKER_SECONDS: Final = 1.5


class Demonstration:
    """The parts of the demo, for one account."""

    def __init__(self, *, user_id: UUID, key: DevelopmentKey) -> None:
        self.orders = Orders()
        self._user_id = user_id
        self.receiver = Receiver()
        self._bot = ExampleBot(token=lambda: key.issue(user_id, scopes=(ACK_SCOPE,)), close=self._close)
        self._routes = DemoRoutes(bot=self._bot, receiver=self.receiver, orders=self.orders)

    def routes(self, *, authenticate: Authenticate, folder: Path) -> list[BaseRoute]:
        """The routes of the demo, whose pages are in ``folder``."""
        return self._routes.routes(authenticate=authenticate, folder=folder)

    async def begin(self, driver: asyncpg.Connection, url: str) -> None:
        """Arm the account, have its alerts delivered to this server at ``url``, and start the bot."""
        await put_escalation(driver, self._user_id, POLICY)
        await self._put_endpoints(driver, url)
        await set_arming(driver, self._user_id, armed=True, by_name=_NAME)
        self._routes.serve(url)
        self._bot.start(url)

    async def end(self) -> None:
        """Stop the bot."""
        await self._bot.stop()

    async def _put_endpoints(self, driver: asyncpg.Connection, url: str) -> None:
        user_id = self._user_id
        for endpoint in await list_endpoints(driver, user_id):
            if endpoint.description == _DESCRIPTION:
                await delete_endpoint(driver, user_id, endpoint.endpoint_id)
        webhook = await put_endpoint(
            driver, user_id, kind="webhook", url=url + WEBHOOK_PATH, description=_DESCRIPTION
        )
        (found,) = await list_endpoints(driver, user_id, endpoint=webhook)
        self.receiver.expect(found.secrets[0])
        if people.is_installed():
            person = f"gotify://{urlsplit(url).netloc}{PERSON_PATH}/{self.receiver.person_key}"
            await put_endpoint(driver, user_id, kind="person", url=person, description=_DESCRIPTION)

    async def _close(self, ticket: str) -> None:
        # Brokers take a moment, and people see what happens.
        await asyncio.sleep(_BROKER_SECONDS)
        self.orders.close(self._user_id, int(ticket))

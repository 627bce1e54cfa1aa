"""The HTTP of the demo: its bot, the calls that arrived, and the receiver's page.

The page's requests carry the demo's token. A webhook is known by its signature, a message to the person by its key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from realtime.delivery.http.bodies import decode_body, read_body
from realtime.delivery.http.parameters import Authenticate
from realtime.demo.bot import Acted, ExampleBot
from realtime.demo.receiver import Received, Receiver
from realtime.simulator import Orders

WEBHOOK_PATH: Final = "/demo/webhook"
#: A Gotify client appends `/message`.
PERSON_PATH: Final = "/demo/person"

_NO_STORE: Final = {"cache-control": "no-store"}
_REVALIDATE: Final = {"cache-control": "no-cache"}


class BotRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Start the bot, or stop it."""

    running: bool


class DemoDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The values of the panel: the bot, the newest alerts that it acted on, and how many calls arrived."""

    running: bool
    acted: list[Acted]
    received: int


class ReceivedDocument(msgspec.Struct, frozen=True):
    """The newest calls that arrived, newest first."""

    received: list[Received]


class DemoRoutes:
    """The routes of the demo."""

    def __init__(self, *, bot: ExampleBot, receiver: Receiver, orders: Orders) -> None:
        self._bot = bot
        self._receiver = receiver
        self._orders = orders
        self._url = ""

    def serve(self, url: str) -> None:
        """Take the server's URL, at which the bot is started."""
        self._url = url

    def routes(self, *, authenticate: Authenticate, folder: Path) -> list[BaseRoute]:
        """Everything under `/demo/` but the token; ``folder`` holds the pages."""
        page = (folder / "webhooks.html").read_text("utf-8")

        async def webhooks(_: Request) -> Response:
            return HTMLResponse(page, headers=_REVALIDATE)

        async def state(request: Request) -> Response:
            await authenticate(request.scope)
            return self._state()

        async def set_running(request: Request) -> Response:
            await authenticate(request.scope)
            return await self._set_running(await read_body(request.receive))

        async def widen(request: Request) -> Response:
            await authenticate(request.scope)
            self._orders.widen_spread()
            return self._state()

        async def received(request: Request) -> Response:
            await authenticate(request.scope)
            return _json(ReceivedDocument(list(self._receiver.received)))

        return [
            Route("/demo/webhooks", webhooks),
            Route("/demo/state", state),
            Route("/demo/bot", set_running, methods=["PUT"]),
            Route("/demo/spread", widen, methods=["POST"]),
            Route("/demo/received", received),
            Route(WEBHOOK_PATH, self._take_webhook, methods=["POST"]),
            Route(f"{PERSON_PATH}/message", self._take_message, methods=["POST"]),
        ]

    def _state(self) -> Response:
        bot = self._bot
        return _json(
            DemoDocument(running=bot.is_running, acted=list(bot.acted), received=self._receiver.count)
        )

    async def _set_running(self, body: bytes) -> Response:
        if decode_body(body, BotRequest, "state of the bot").running:
            self._bot.start(self._url)
        else:
            await self._bot.stop()
        return self._state()

    async def _take_webhook(self, request: Request) -> Response:
        if not self._receiver.take_webhook(await read_body(request.receive), request.headers):
            raise HTTPException(403, "The signature is not valid.")
        return Response(status_code=204)

    async def _take_message(self, request: Request) -> Response:
        body = await read_body(request.receive)
        try:
            is_valid = self._receiver.take_message(body, request.headers.get("x-gotify-key", ""))
        except msgspec.DecodeError as error:
            raise HTTPException(422, f"The body is no message: {error}.") from None
        if not is_valid:
            raise HTTPException(403, "The key is not valid.")
        return _json({})


def _json(document: Any) -> Response:
    return Response(msgspec.json.encode(document), headers=_NO_STORE, media_type="application/json")

"""The demo's routes answer its own pages, and calls that are signed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from starlette.types import Scope

from auth.development import DevelopmentKey
from auth.identity import Identity
from auth.refusals import refusal
from realtime.delivery.http.application import Application
from realtime.demo.demonstration import Demonstration
from tests.delivery.asgi_server import serving

PAGES = Path(__file__).parents[2] / "static" / "demo"


async def refuse(_: Scope) -> Identity:
    raise refusal("missing")


@pytest.fixture
def demonstration() -> Demonstration:
    return Demonstration(user_id=uuid4(), key=DevelopmentKey("k" * 43))


@pytest.fixture
async def client(demonstration: Demonstration) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests carry no token."""
    app = Application(demonstration.routes(authenticate=refuse, folder=PAGES))
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "state"), ("GET", "received"), ("PUT", "bot"), ("POST", "spread")],
)
async def test_nobody_sees_or_steers_the_demo_without_its_token(
    client: httpx.AsyncClient, demonstration: Demonstration, method: str, path: str
) -> None:
    assert (await client.request(method, f"/demo/{path}", json={"running": True})).status_code == 401
    assert not demonstration.orders.take_widening()


async def test_a_call_that_nobody_signed_is_refused_and_shown_without_its_content(
    client: httpx.AsyncClient, demonstration: Demonstration
) -> None:
    assert (await client.post("/demo/webhook", json={"type": "alert.raised"})).status_code == 403
    assert (await client.post("/demo/person/message", json={"title": "t"})).status_code == 403
    assert [(each.is_valid, each.event, each.title) for each in demonstration.receiver.received] == [
        (False, None, None)
    ] * 2


async def test_a_large_call_is_not_read_to_its_end(
    client: httpx.AsyncClient, demonstration: Demonstration
) -> None:
    assert (await client.post("/demo/webhook", content=b" " * 100_000)).status_code == 413
    assert not demonstration.receiver.received


async def test_a_message_that_is_no_object_is_refused(
    client: httpx.AsyncClient, demonstration: Demonstration
) -> None:
    key = {"x-gotify-key": demonstration.receiver.person_key}
    assert (await client.post("/demo/person/message", content=b"[]", headers=key)).status_code == 422


async def test_the_receivers_page_is_for_everybody_on_this_machine(client: httpx.AsyncClient) -> None:
    response = await client.get("/demo/webhooks")
    assert response.status_code == 200
    assert "gw-received" in response.text

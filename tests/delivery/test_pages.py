"""The dashboard's pages, and the token that opens it in development only."""

from __future__ import annotations

import html
import re
from pathlib import Path

import httpx
import pytest

from realtime.delivery.http.application import Application
from realtime.delivery.http.service import page_routes
from tests.delivery.asgi_server import serving

STATIC = Path(__file__).parent.parent.parent / "static"


async def test_the_dashboard_and_its_modules_are_served_and_looked_for_anew() -> None:
    async with (
        serving(Application(page_routes(STATIC, demo_token=None))) as url,
        httpx.AsyncClient() as client,
    ):
        for path in ("/", "/static/dashboard.js"):
            response = await client.get(url + path)
            assert response.status_code == 200
            assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("token_url", ["", "/session/token", '/"><script>'])
async def test_the_page_says_where_its_tokens_are(token_url: str) -> None:
    async with (
        serving(Application(page_routes(STATIC, demo_token=None, token_url=token_url))) as url,
        httpx.AsyncClient() as client,
    ):
        text = (await client.get(url)).text
    (told,) = re.findall(r'<meta name="guardwire-token-url" content="([^"]*)">', text)
    assert html.unescape(told) == token_url
    assert "<" not in told


async def test_without_a_demo_there_is_no_token_to_be_had() -> None:
    async with (
        serving(Application(page_routes(STATIC, demo_token=None))) as url,
        httpx.AsyncClient() as client,
    ):
        assert (await client.get(f"{url}/demo/token")).status_code == 404


async def test_a_demos_panel_stands_before_the_board_and_nowhere_else() -> None:
    for panel in ("", "<gw-demo></gw-demo>"):
        app = Application(page_routes(STATIC, demo_token=None, panel=panel))
        async with serving(app) as url, httpx.AsyncClient() as client:
            text = (await client.get(url)).text
        assert text.count("<gw-demo>") == (panel != "")
        assert panel + "<main>" in text


@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1:8000", 200), ("localhost", 200), ("evil.example", 404), ("", 404)]
)
async def test_the_demos_token_is_only_for_pages_of_this_machine(host: str, status: int) -> None:
    app = Application(page_routes(STATIC, demo_token=lambda: "a token"))
    async with serving(app) as url, httpx.AsyncClient() as client:
        response = await client.get(f"{url}/demo/token", headers={"host": host})
        assert response.status_code == status

"""Headers that every answer carries, over real HTTP."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from realtime.delivery.http.application import Application
from realtime.delivery.http.middleware import EXPOSED, HeadersMiddleware
from realtime.delivery.http.problems import UNAUTHENTICATED, ProblemResponse
from tests.delivery.asgi_server import serving

DESK = "https://desk.example"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self' ws://{host} wss://{host}; base-uri 'none'; form-action 'none'; frame-ancestors"
    " 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


async def fail(_: Request) -> Response:
    raise ZeroDivisionError


async def refuse(websocket: WebSocket) -> None:
    await ProblemResponse(UNAUTHENTICATED)(websocket.scope, websocket.receive, websocket.send)


def application(folder: Path, **options: Any) -> Application:
    (folder / "page.css").write_text("a{}")
    return Application(
        [
            Route("/hello", hello),
            Route("/fail", fail),
            WebSocketRoute("/ws", refuse),
            Mount("/static", StaticFiles(directory=folder)),
        ],
        **options,
    )


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(application(tmp_path)) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest.fixture
async def open_site(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = application(tmp_path, allowed_origins=[DESK])
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/hello", 200),
        ("HEAD", "/hello", 200),
        ("POST", "/hello", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/fail", 500),
        ("GET", "/static/page.css", 200),
        ("GET", "/static/nowhere.css", 404),
        ("GET", "/hello/", 404),
    ],
)
async def test_every_answer_carries_the_security_headers(
    site: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await site.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-security-policy"] == POLICY.format(host=site.base_url.netloc.decode())
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["x-request-id"]
    assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_a_refused_handshake_carries_them_too(site: httpx.AsyncClient) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with connect(f"ws://{site.base_url.netloc.decode()}/ws"):
            raise AssertionError("the handshake was accepted")
    refused = caught.value.response
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["x-content-type-options"] == "nosniff"
    assert refused.headers["x-request-id"].encode() in (refused.body or b"")


@pytest.mark.parametrize("host", ["[::1]:8000", "a b", "x';script-src *", "é", "", "x" * 300])
async def test_a_host_that_a_policy_cannot_name_is_left_out_of_it(site: httpx.AsyncClient, host: str) -> None:
    answer = await site.get("/hello", headers={b"host": host.encode("latin-1")})
    if answer.status_code == 200:
        assert "connect-src 'self'; base-uri" in answer.headers["content-security-policy"]
    else:
        assert answer.status_code == 400  # uvicorn's own: it never reached the application


async def test_strict_transport_is_sent_over_https_alone(tmp_path: Path) -> None:
    app = application(tmp_path)
    async with (
        serving(app, forwarded_allow_ips="127.0.0.1") as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        plain = await client.get("/hello")
        secure = await client.get("/hello", headers={"x-forwarded-proto": "https"})
    assert "strict-transport-security" not in plain.headers
    assert secure.headers["strict-transport-security"] == "max-age=31536000"


async def test_a_sane_request_id_is_echoed(site: httpx.AsyncClient) -> None:
    for sane in ("desk-7.42_A", "x" * 64, "0"):
        answer = await site.get("/hello", headers={"x-request-id": sane})
        assert answer.headers["x-request-id"] == sane


@pytest.mark.parametrize("odd", ["x" * 65, "", "a b", "é", "<script>", "a,b", '"'])
async def test_another_one_is_replaced(site: httpx.AsyncClient, odd: str) -> None:
    answer = await site.get("/hello", headers={b"x-request-id": odd.encode("latin-1")})
    assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", answer.headers["x-request-id"])


async def test_no_two_requests_are_given_the_same_id(site: httpx.AsyncClient) -> None:
    ids = {(await site.get("/hello")).headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


async def test_no_origin_may_read_answers_by_default(site: httpx.AsyncClient) -> None:
    preflight = await site.options("/hello", headers={"origin": DESK, "access-control-request-method": "GET"})
    assert preflight.status_code == 405
    for answer in (preflight, await site.get("/hello", headers={"origin": DESK})):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_an_allowed_origin_may_read_answers_and_errors(open_site: httpx.AsyncClient) -> None:
    for path in ("/hello", "/nowhere", "/fail"):
        answer = await open_site.get(path, headers={"origin": DESK})
        assert answer.headers["access-control-allow-origin"] == DESK
        assert answer.headers["access-control-expose-headers"] == EXPOSED
        assert "access-control-allow-credentials" not in answer.headers
        assert "Origin" in answer.headers["vary"]


async def test_an_allowed_origin_may_send_what_the_api_needs(open_site: httpx.AsyncClient) -> None:
    preflight = await open_site.options(
        "/hello",
        headers={
            "origin": DESK,
            "access-control-request-method": "GET",
            "access-control-request-headers": "authorization",
        },
    )
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == DESK
    assert "GET" in preflight.headers["access-control-allow-methods"]
    assert "Authorization" in preflight.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    ("named", "sent"),
    [
        ("https://desk.example:443", "https://desk.example"),
        ("https://desk.example", "https://desk.example:443"),
        ("https://DESK.example", "https://desk.example"),
        ("http://desk.example:80", "http://desk.example"),
        ("capacitor://localhost", "capacitor://localhost"),
    ],
)
async def test_one_origin_has_many_spellings(named: str, sent: str, tmp_path: Path) -> None:
    async with (
        serving(application(tmp_path, allowed_origins=[named])) as url,
        httpx.AsyncClient(base_url=url) as site,
    ):
        answer = await site.get("/hello", headers={"origin": sent})
        assert answer.headers["access-control-allow-origin"] == sent


@pytest.mark.parametrize(
    "origin", ["https://desk.example.evil", "http://desk.example", "null", "https://desk.example:8443"]
)
async def test_another_origin_may_not(open_site: httpx.AsyncClient, origin: str) -> None:
    headers = {"origin": origin, "access-control-request-method": "GET"}
    for answer in (
        await open_site.get("/hello", headers=headers),
        await open_site.options("/hello", headers=headers),
    ):
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "Origin"


async def test_a_caller_with_many_host_names_does_not_fill_the_memory() -> None:
    async def nothing(scope: Scope, receive: Receive, send: Send) -> None: ...

    layer = HeadersMiddleware(nothing)
    for n in range(1000):
        scope = {"type": "http", "scheme": "http", "headers": [(b"host", b"h%d.example" % n)]}
        await layer(scope, None, None)  # type: ignore[arg-type]
    assert len(layer._by_host) <= 64

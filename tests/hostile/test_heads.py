"""The headers of every answer, and the pages that may ask: a whole node, over bare connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Final
from uuid import uuid4

import pytest

from realtime.delivery.server.deadlines import HttpTiming
from tests.end_to_end.node import Node, node
from tests.hostile.wire import GOODBYE_SECONDS, answer, connection, handshake, request

#: Security headers that every answer carries.
SECURITY: Final = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}
EVIL: Final = "https://evil.example"
HEALTH: Final = "/api/v1/trading/health"


@pytest.fixture
async def served(migrated_url: str) -> AsyncIterator[Node]:
    async with node(migrated_url) as served:
        yield served


def address(served: Node) -> str:
    return served.url.removeprefix("http://")


async def asked(served: Node, data: bytes) -> tuple[int, dict[bytes, bytes]]:
    """Status and headers of the answer."""
    head = await answer(address(served), data)
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    return int(first.split()[1]), {
        name.lower(): value for name, value in (line.split(b": ", 1) for line in lines)
    }


def plain(line: str, **headers: str) -> bytes:
    """A request; names of headers are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(line, {"Host": "here", **named})


ASKED: Final[dict[str, tuple[str, Mapping[str, str], int]]] = {
    "a page": ("GET / HTTP/1.1", {}, 200),
    "health": (f"GET {HEALTH} HTTP/1.1", {}, 200),
    "HEAD": (f"HEAD {HEALTH} HTTP/1.1", {}, 200),
    "metrics": ("GET /metrics HTTP/1.1", {}, 200),
    "the description": ("GET /api/v1/openapi.json HTTP/1.1", {}, 200),
    "nobody's read": ("GET /api/v1/guards/status HTTP/1.1", {}, 401),
    "a bad token": ("GET /api/v1/state HTTP/1.1", {"Authorization": "Bearer x.y.z"}, 401),
    "a token in the URL": ("GET /api/v1/state?access_token=x.y.z HTTP/1.1", {}, 401),
    "an unknown path": ("GET /nowhere HTTP/1.1", {}, 404),
    "a path out of the static files": ("GET /static/../app.py HTTP/1.1", {}, 404),
    "the same, escaped": ("GET /static/%2e%2e/app.py HTTP/1.1", {}, 404),
    "the same, escaped twice": ("GET /static/%252e%252e%252fapp.py HTTP/1.1", {}, 404),
    "another method": (f"DELETE {HEALTH} HTTP/1.1", {}, 405),
    "a method that nobody knows": (f"PURGE {HEALTH} HTTP/1.1", {}, 405),
    "a preflight of another site": (
        f"OPTIONS {HEALTH} HTTP/1.1", {"Origin": EVIL, "Access-Control-Request-Method": "GET"}, 405
    ),
    "a ticket for nobody": ("POST /api/v1/tickets HTTP/1.1", {"Content-Length": "0"}, 401),
    "a WebSocket's path without one": ("GET /ws HTTP/1.1", {}, 426),
}  # fmt: skip


async def test_every_answer_carries_the_security_headers_and_none_of_cors(served: Node) -> None:
    for what, (line, headers, status) in ASKED.items():
        found, told = await asked(served, request(line, {"Host": "here", **headers}))
        assert found == status, what
        for name, value in SECURITY.items():
            assert told[name].startswith(value), (what, name)
        assert not [name for name in told if name.startswith(b"access-control-")], what
        assert b"server" not in told, what


async def test_a_page_of_another_site_may_not_connect_even_with_a_good_token(served: Node) -> None:
    token = {"Authorization": f"Bearer {served.token(uuid4())}"}
    for origin, status in (
        (EVIL, 403),
        (f"http://{address(served)}.evil.example", 403),
        (f"http://user@{address(served)}", 403),
        ("file://", 403),
        (f"http://{address(served)}", 101),
    ):
        found, _ = await asked(served, handshake(address(served), {**token, "Origin": origin}))
        assert found == status, origin


async def test_an_event_stream_is_not_transformed_and_has_no_chunks_for_old_clients(served: Node) -> None:
    headers = {"Host": "here", "Authorization": f"Bearer {served.token(uuid4())}"}
    for version, is_chunked in (("1.1", True), ("1.0", False)):
        async with connection(address(served)) as (reader, writer), asyncio.timeout(GOODBYE_SECONDS):
            writer.write(request(f"GET /api/v1/stream HTTP/{version}", headers))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"\r\ncache-control: no-store, no-transform\r\n" in head
            assert (b"\r\ntransfer-encoding: chunked\r\n" in head) == is_chunked
            assert (b"\r\nconnection: close\r\n" in head) != is_chunked
            first = await reader.readuntil(b"\n\n")
            if is_chunked:
                first = first.partition(b"\r\n")[2]
            assert json.loads(first.removeprefix(b"data: "))["type"] == "welcome"
            if not is_chunked:
                second = await reader.readuntil(b"\n\n")
                assert second.startswith(b"id: ")


async def test_a_get_of_the_websocket_without_a_handshake_names_the_usual_cause(served: Node) -> None:
    for path, status, cause in (("/ws", 426, "proxy"), ("/ws/", 404, "path")):
        answered = await served.client.get(path)
        assert answered.status_code == status
        assert cause in answered.json()["detail"]
        assert answered.headers.get("upgrade") == ("websocket" if status == 426 else None)


async def test_a_user_without_the_scope_revokes_no_token(served: Node) -> None:
    user, other = uuid4(), uuid4()
    body = f'{{"user_id":"{other}"}}'
    headers = {
        "Host": "here",
        "Authorization": f"Bearer {served.token(user)}",
        "Content-Length": str(len(body)),
    }
    found, _ = await asked(
        served, request("POST /api/v1/admin/revocations HTTP/1.1", headers) + body.encode()
    )
    assert found == 403
    assert (await served.get("/api/v1/guards/status", other))["user_id"] == str(other)


async def test_a_quiet_connection_is_kept_for_longer_than_the_servers_library_would(served: Node) -> None:
    """A proxy that ends quiet connections first meets none that the node has just closed."""
    assert HttpTiming().idle_seconds > 75, "the usual proxies keep theirs for 60 to 75 s"
    async with connection(address(served)) as (reader, writer):
        for quiet_seconds in (7, 0):
            writer.write(plain("GET /livez HTTP/1.1"))
            async with asyncio.timeout(GOODBYE_SECONDS):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                await reader.readexactly(len("alive\n"))
            # uvicorn's own limit is 5 s; nothing comes and nothing ends until then.
            if quiet_seconds:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(reader.read(1), quiet_seconds)

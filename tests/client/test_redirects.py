"""No client follows a redirect, since a token is meant for the one address that it was given for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from auth.fetch import DocumentUrl, fetch
from guardwire import connect
from guardwire.link import TransportName
from realtime.errors import UnavailableError

TRANSPORTS: tuple[TransportName, ...] = ("websocket", "sse", "poll")
STATUSES = (300, 301, 302, 303, 307, 308)


class Origin:
    """A server that records each request and answers with a redirect, or with 404 where it has none."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[str] = []
        self.status = 404
        self.location = ""
        self.asked = asyncio.Event()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Origin]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            location = f"Location: {self.location}\r\n" if self.location else ""
            head = (
                f"HTTP/1.1 {self.status} Answer\r\n{location}Content-Length: 0\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode())
            await writer.drain()
            self.asked.set()
        writer.close()


@pytest.fixture
async def redirecting() -> AsyncIterator[Origin]:
    async with Origin().listening() as origin:
        yield origin


@pytest.fixture
async def elsewhere() -> AsyncIterator[Origin]:
    async with Origin().listening() as origin:
        yield origin


async def follow(origin: Origin, transport: TransportName) -> None:
    """Have a client ask ``origin`` once, and say why it has no state."""
    async with connect(
        origin.url, token="secret", channels=["status"], transports=[transport], open_timeout_seconds=1
    ):
        raise AssertionError("there is no state to be had")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("status", STATUSES)
async def test_a_redirect_to_another_origin_is_not_followed(
    redirecting: Origin, elsewhere: Origin, transport: TransportName, status: int
) -> None:
    scheme = "ws" if transport == "websocket" else "http"
    redirecting.status, redirecting.location = status, f"{scheme}{elsewhere.url.removeprefix('http')}/take"
    with pytest.raises(TimeoutError, match=f"HTTP {status}: redirects are not followed"):
        await follow(redirecting, transport)
    assert elsewhere.requests == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_redirect_within_its_origin_is_not_followed_either(
    redirecting: Origin, transport: TransportName
) -> None:
    redirecting.status, redirecting.location = 307, "/another/path"
    with pytest.raises(TimeoutError, match="HTTP 307: redirects are not followed"):
        await follow(redirecting, transport)
    assert all("/another/path" not in request for request in redirecting.requests)


@pytest.mark.parametrize("status", STATUSES)
async def test_the_fetch_of_the_providers_keys_follows_no_redirect(
    redirecting: Origin, elsewhere: Origin, status: int
) -> None:
    redirecting.status, redirecting.location = status, f"{elsewhere.url}/keys"
    with pytest.raises(UnavailableError, match=f"HTTP {status}"):
        await fetch(DocumentUrl(f"{redirecting.url}/keys"), timeout_seconds=10, max_bytes=1000, tls=None)
    assert elsewhere.requests == []

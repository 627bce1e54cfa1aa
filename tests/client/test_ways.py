"""The ways to the server: TLS with a private authority, and proxies that the environment names."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from guardwire import connect
from guardwire.link import TransportName
from tests.client.http_peer import HttpPeer, snapshot
from tests.client.states import status

STATE = {"status": status()}
TRANSPORTS: tuple[TransportName, ...] = ("websocket", "sse", "poll")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of ``localhost`` in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + built.public_bytes(pem))
    return path


@asynccontextmanager
async def serving(certificate: Path | None) -> AsyncIterator[HttpPeer]:
    peer = HttpPeer()
    peer.sockets = "served"
    options = (
        {} if certificate is None else {"ssl_certfile": str(certificate), "ssl_keyfile": str(certificate)}
    )
    async with peer.listening(**options):
        yield peer


async def answer(peer: HttpPeer, transport: TransportName) -> None:
    match transport:
        case "websocket":
            await (await peer.talking.get()).begin(100, STATE)
        case "sse":
            await (await peer.streaming.get()).begin(100, STATE)
        case "poll":
            (await peer.polling.get()).frame(snapshot(100, STATE))


async def reaches(
    peer: HttpPeer, transport: TransportName, tls: ssl.SSLContext | None = None, *, within_seconds: float = 10
) -> bool:
    """Whether a client gets a fresh state over ``transport``."""
    answering = asyncio.ensure_future(answer(peer, transport))
    try:
        async with connect(
            peer.url,
            token="t",
            channels=["status"],
            transports=[transport],
            tls=tls,
            open_timeout_seconds=within_seconds,
        ) as account:
            return account.fresh
    finally:
        answering.cancel()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_transport_runs_over_tls_with_a_private_authority(
    certificate: Path, transport: TransportName
) -> None:
    async with serving(certificate) as peer:
        assert await reaches(peer, transport, ssl.create_default_context(cafile=str(certificate)))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_certificate_of_an_unknown_authority_is_refused(
    certificate: Path, transport: TransportName
) -> None:
    async with serving(certificate) as peer:
        with pytest.raises(TimeoutError, match="CERTIFICATE_VERIFY_FAILED"):
            await reaches(peer, transport, within_seconds=1)


class Proxy:
    """An HTTP proxy that knows CONNECT."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[str] = []
        self.refuses = False
        #: Sent behind the answer to CONNECT, in the same segment.
        self.injected = b""
        #: Sent once the client has sent something through the tunnel, and before the server's answer.
        self.injected_later = b""
        self.answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "localhost", 0, ssl=tls)
        scheme, port = "http" if tls is None else "https", server.sockets[0].getsockname()[1]
        self.url = f"{scheme}://user:pass%20word@localhost:{port}"
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()
            await self._end_connections()

    async def _end_connections(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            # close() waits for the peer's close_notify, which does not come from a peer that is gone.
            writer.transport.abort()
        await asyncio.sleep(0)  # abort() closes the socket in the next turn of the loop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        self._writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._answer(reader, writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(head)
        if self.refuses:
            writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            await writer.drain()
            return
        host, port = head.split(" ")[1].rsplit(":", 1)
        there = await asyncio.open_connection(host, int(port))
        self._writers.append(there[1])
        writer.write(self.answer + self.injected)
        if self.injected_later:
            there[1].write(await reader.read(65_536))
            writer.write(self.injected_later)
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    writer.close()


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    proxy = Proxy()
    async with proxy.listening():
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield proxy


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("over_tls", [False, True])
async def test_every_transport_goes_through_the_proxy_of_the_environment(
    certificate: Path, proxy: Proxy, transport: TransportName, over_tls: bool
) -> None:
    async with serving(certificate if over_tls else None) as peer:
        tls = ssl.create_default_context(cafile=str(certificate)) if over_tls else None
        assert await reaches(peer, transport, tls)
    (request,) = proxy.requests
    assert request.startswith("CONNECT localhost:")
    assert "Proxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=" in request
    assert "Bearer" not in request


async def test_a_proxy_may_be_reached_over_tls_itself(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    inside.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    proxy = Proxy()
    async with proxy.listening(inside), serving(certificate) as peer:
        monkeypatch.setenv("https_proxy", proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert await reaches(peer, "sse")
        proxy.injected = forged("sse")
        with pytest.raises(TimeoutError, match="bytes came after the proxy's answer"):
            await reaches(peer, "sse", within_seconds=1)


async def test_hosts_that_the_environment_exempts_are_reached_directly(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "localhost")
    async with serving(None) as peer:
        assert await reaches(peer, "sse")
    assert proxy.requests == []


async def test_a_refusal_of_the_proxy_is_not_final(proxy: Proxy) -> None:
    proxy.refuses = True
    async with serving(None) as peer:
        with pytest.raises(TimeoutError, match="the proxy refused"):
            await reaches(peer, "sse", within_seconds=1)


def forged(transport: TransportName) -> bytes:
    """A whole answer to the request that a client would send over ``transport``, with a state."""
    frame = json.dumps(snapshot(999, STATE))
    if transport == "poll":
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(frame)}"
        return f"{head}\r\n\r\n{frame}".encode()
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {frame}\n\n".encode()


@pytest.mark.parametrize("transport", ["sse", "poll"])
@pytest.mark.parametrize("over_tls", [False, True])
async def test_bytes_after_the_proxys_answer_never_count_as_the_servers(
    certificate: Path, proxy: Proxy, transport: TransportName, over_tls: bool
) -> None:
    proxy.injected = forged(transport)
    async with serving(certificate if over_tls else None) as peer:
        tls = ssl.create_default_context(cafile=str(certificate)) if over_tls else None
        with pytest.raises(TimeoutError, match="bytes came after the proxy's answer"):
            await reaches(peer, transport, tls, within_seconds=1)
        assert peer.streaming.empty()
        assert peer.polling.empty()


async def test_one_byte_after_the_proxys_answer_is_refused(certificate: Path, proxy: Proxy) -> None:
    proxy.injected = b"\n"
    async with serving(certificate) as peer:
        with pytest.raises(TimeoutError, match="bytes came after the proxy's answer"):
            await reaches(peer, "sse", ssl.create_default_context(cafile=str(certificate)), within_seconds=1)


async def test_bytes_that_come_a_moment_after_the_answer_fail_in_tls(certificate: Path, proxy: Proxy) -> None:
    """They are read as part of the TLS handshake, which they are not."""
    proxy.injected_later = forged("sse")
    async with serving(certificate) as peer:
        with pytest.raises(TimeoutError, match=r"SSL|TLS"):
            await reaches(peer, "sse", ssl.create_default_context(cafile=str(certificate)), within_seconds=1)
        assert peer.streaming.empty()


async def test_a_forged_websocket_after_the_proxys_answer_is_refused(certificate: Path, proxy: Proxy) -> None:
    """The `websockets` library connects through proxies by itself."""
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    proxy.injected = answer + b"\x81\x02{}"
    async with serving(certificate) as peer:
        assert await reaches(peer, "websocket", ssl.create_default_context(cafile=str(certificate)))


async def test_an_endless_answer_of_the_proxy_is_given_up(proxy: Proxy) -> None:
    proxy.answer = b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 100_000
    async with serving(None) as peer:
        with pytest.raises(TimeoutError, match="no answer that ends"):
            await reaches(peer, "sse", within_seconds=1)

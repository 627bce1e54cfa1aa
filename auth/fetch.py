"""Fetches one small document over HTTP, with bounds on time, bytes and headers, and without redirects.

It uses h11 and no client library. A client library would add decompression, redirects, proxies and a pool, and with
each of them an endpoint could take more time or memory than the bounds allow.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from typing import Final
from urllib.parse import SplitResult, urlsplit

import h11

from realtime.errors import ConfigurationError, UnavailableError

MAX_HEADER_BYTES: Final = 16_384
_READ_BYTES: Final = 16_384
#: Parser events in one answer. Chunks of one byte, or endless interim responses, cost more than their length.
_MAX_EVENTS: Final = 4096


class DocumentUrl:
    """The checked URL of a document: https, or http on this machine alone, and without credentials."""

    __slots__ = ("host", "port", "secure", "target")

    def __init__(self, url: str) -> None:
        """Take ``url``; raises ConfigurationError when a fetch from it would not be safe."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigurationError(["The JWKS address is not a URL."]) from None
        problem = _problem(url, parts)
        if problem is not None:
            raise ConfigurationError([f"The JWKS address {problem}."])
        self.host = parts.hostname or ""
        self.secure = parts.scheme == "https"
        self.port = port or (443 if self.secure else 80)
        self.target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def _problem(url: str, parts: SplitResult) -> str | None:
    if parts.scheme not in ("https", "http") or not parts.hostname:
        return "must be an https:// URL"
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        return "must be https:// (http:// is for this machine alone), because the keys decide who may log in"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "must be written in printable ASCII without spaces"
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def fetch(
    address: DocumentUrl, *, timeout_seconds: float, max_bytes: int, tls: ssl.SSLContext | None
) -> bytes:
    """The whole body at ``address``, within ``timeout_seconds`` from the name look-up to the last byte.

    ``tls`` holds the trusted certificates for a secure address. Raises UnavailableError for every answer but a
    plain 200.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await asyncio.open_connection(
                address.host, address.port, ssl=tls if address.secure else None, limit=_READ_BYTES
            )
            try:
                return await _exchange(address, reader, writer, max_bytes=max_bytes)
            finally:
                # close() would wait for TLS's close_notify, which a peer that stopped reading never sends.
                writer.transport.abort()
    except TimeoutError:
        raise UnavailableError(f"no complete answer within {timeout_seconds:g} s") from None
    except (OSError, ValueError, h11.ProtocolError) as error:  # ValueError: an impossible host name
        raise UnavailableError(f"no usable answer ({type(error).__name__})") from None


async def _exchange(
    address: DocumentUrl, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, max_bytes: int
) -> bytes:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BYTES)
    headers = [
        ("Host", address.authority),
        ("Accept", "application/jwk-set+json, application/json"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
        ("User-Agent", "guardwire"),
    ]
    request = connection.send(h11.Request(method="GET", target=address.target, headers=headers))
    writer.write((request or b"") + (connection.send(h11.EndOfMessage()) or b""))
    body, left_bytes = bytearray(), max_bytes + MAX_HEADER_BYTES
    for _ in range(_MAX_EVENTS):
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_READ_BYTES)
            left_bytes -= len(data)
            if left_bytes < 0:
                raise UnavailableError(f"the answer is longer than {max_bytes} bytes")
            connection.receive_data(data)
        elif isinstance(event, h11.Response):
            _check(event)
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return bytes(body)
        elif not isinstance(event, h11.InformationalResponse):
            break
    raise UnavailableError("the answer is not a plain response")


def _check(response: h11.Response) -> None:
    if response.status_code != 200:
        raise UnavailableError(f"the answer is HTTP {response.status_code}")
    for name, value in response.headers:
        if name == b"content-encoding" and value.lower() != b"identity":
            raise UnavailableError("the answer is compressed")

"""A byte stream to the server: direct, or through the HTTP proxy that the environment names (CONNECT, RFC
9110, 9.3.6).
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from realtime.client.address import Address
from realtime.client.ending import unreachable

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_MAX_ANSWER_BYTES: Final = 16_384


def proxy_for(address: Address) -> SplitResult | None:
    """The proxy to use for ``address`` by the environment's ``https_proxy``, ``http_proxy`` and ``no_proxy``;
    None for none.
    """
    if proxy_bypass(f"{address.host}:{address.port}"):
        return None
    url = getproxies().get("https" if address.secure else "http")
    if url is None:
        return None
    proxy = urlsplit(url if "://" in url else f"http://{url}")
    return proxy if proxy.scheme in ("http", "https") and proxy.hostname else None


async def open_streams(address: Address, tls: ssl.SSLContext | None) -> Streams:
    """Reader and writer to ``address``; raises OSError, and LinkEnded where a proxy refuses."""
    context = (tls or ssl.create_default_context()) if address.secure else None
    proxy = proxy_for(address)
    if proxy is None:
        return await asyncio.open_connection(address.host, address.port, ssl=context)
    reader, writer = await asyncio.open_connection(
        proxy.hostname,
        proxy.port or (443 if proxy.scheme == "https" else 80),
        ssl=ssl.create_default_context() if proxy.scheme == "https" else None,
    )
    try:
        await _ask(reader, writer, address, proxy)
        if context is not None:
            await writer.start_tls(context, server_hostname=address.host)
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: Address, proxy: SplitResult
) -> None:
    lines = [f"CONNECT {address.authority} HTTP/1.1", f"Host: {address.authority}"]
    if proxy.username is not None:
        credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(credentials.encode()).decode()}")
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    await writer.drain()
    try:
        answer = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise unreachable("the proxy gave no answer") from error
    status = answer[:_MAX_ANSWER_BYTES].split(b" ", 2)[1:2]
    if status != [b"200"]:
        raise unreachable(f"the proxy refused: {answer[:80]!r}")

"""HTTP requests to checked addresses: each resolves the name once, and connects to an address of that answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Final, NamedTuple

import httpx

from guardwire import __version__
from realtime.errors import UnavailableError
from realtime.escalation.addresses import Target, may_be_called, read_target
from realtime.escalation.threads import Threads

#: From the look-up of the name to the status of the answer.
TIMEOUT_SECONDS: Final = 5.0
#: Leaves time for another address, such as an IPv4 address where the way by IPv6 is broken.
_CONNECT_SECONDS: Final = 2.0
_MOST_ADDRESSES: Final = 3
_MOST_LOOKUPS: Final = 64
_MOST_RETRY_AFTER_SECONDS: Final = 3600.0

#: Gives the addresses of a name, as text; raises OSError when it has none.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Answer(NamedTuple):
    """The part of an answer that is used; its body is not read."""

    status: int
    #: Seconds from now; None when the answer names none.
    retry_after_seconds: float | None


class Resolver:
    """Asks the system for the addresses of a name."""

    def __init__(self) -> None:
        # The event loop's own threads are few, and a name server that is silent would occupy them all.
        self._threads = Threads("resolve", most=_MOST_LOOKUPS)

    async def __call__(self, host: str, port: int) -> list[str]:
        """The addresses of ``host``, in the order in which they should be tried."""
        found = await self._threads.run(
            partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        )
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


class OutboundRequests:
    """Sends requests that follow no redirect, use no proxy, keep no cookie and read no more than the answer's head.

    httpx's transport is used by itself, because its client would add cookies and settings of the environment. Each
    request has a transport of its own: a pool is kept by address, and could send to one name over the connection of
    another name at the same address.
    """

    def __init__(
        self,
        *,
        allow_private: bool,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """``tls`` holds the trusted certificates, the system's by default."""
        self._allow_private = allow_private
        self._resolve = resolve or Resolver()
        # Loading the system's certificates takes 20 ms.
        self._tls = tls or ssl.create_default_context()
        self._timeout_seconds = timeout_seconds

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """The answer to one request; raises UnavailableError, whose sentence repeats no part of the URL."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                target = read_target(url, allow_private=self._allow_private)
                return await self._send_to(target, method, headers or {}, body)
        except TimeoutError:
            raise UnavailableError(f"no answer within {self._timeout_seconds:g} s") from None
        except ValueError as error:
            raise UnavailableError(f"its URL {error}") from None
        except httpx.TransportError as error:
            raise UnavailableError(f"no usable answer ({type(error).__name__})") from None

    async def _send_to(self, target: Target, method: str, headers: Mapping[str, str], body: bytes) -> Answer:
        failed: httpx.TransportError | None = None
        for address in await self._addresses(target):
            request = httpx.Request(
                method,
                target.at(address),
                headers={
                    **headers,
                    "Host": target.url.netloc.decode("ascii"),
                    "User-Agent": f"guardwire/{__version__}",
                    "Accept-Encoding": "identity",
                    "Connection": "close",
                },
                content=body,
                extensions={"timeout": {"connect": _CONNECT_SECONDS}}
                # TLS asks for this name and checks the certificate against it.
                | ({} if target.name is None else {"sni_hostname": target.name}),
            )
            try:
                return await self._exchange(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failed = error
        assert failed is not None
        raise failed

    async def _addresses(self, target: Target) -> list[str]:
        """The addresses to try; raises UnavailableError when there is none that may be called."""
        try:
            found = [target.host] if target.name is None else await self._resolve(target.host, target.port)
        except (OSError, UnicodeError):
            raise UnavailableError("its name has no address") from None
        allowed = [each for each in found if may_be_called(each, allow_private=self._allow_private)]
        if not allowed:
            raise UnavailableError("its address may not be called")
        return allowed[:_MOST_ADDRESSES]

    async def _exchange(self, request: httpx.Request) -> Answer:
        async with httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            response = await transport.handle_async_request(request)
            try:
                return Answer(response.status_code, retry_after(response.headers.get("retry-after")))
            finally:
                await response.aclose()


def retry_after(value: str | None) -> float | None:
    """The seconds that a Retry-After header asks for, at most an hour; None without a usable one."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        # More digits would be an hour as well.
        return min(float(value[:10]), _MOST_RETRY_AFTER_SECONDS)
    try:
        at = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _MOST_RETRY_AFTER_SECONDS)

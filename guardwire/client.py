"""`connect`: opens a live mirror of one account."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from guardwire import address
from guardwire.account import Account, in_order
from guardwire.changes import Change
from guardwire.connection import Connection
from guardwire.errors import ClientError, ConnectionRefused, StaleState
from guardwire.freshness import Status
from guardwire.session import Session
from guardwire.signal import Signal
from guardwire.state import CHANNELS
from guardwire.token import Token, TokenSource
from guardwire.transports import TRANSPORTS, TransportName

__all__ = [
    "Account",
    "Change",
    "ClientError",
    "ConnectionRefused",
    "StaleState",
    "Status",
    "Token",
    "connect",
]


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: Token,
    channels: Iterable[str] = CHANNELS,
    max_age_seconds: float = 10.0,
    open_timeout_seconds: float | None = 30.0,
    tls: ssl.SSLContext | None = None,
    transports: Sequence[TransportName] = ("websocket", "sse", "poll"),
) -> AsyncIterator[Account]:
    """Mirror the account that ``token`` is for, from ``url`` (``https://host``, or ``wss://host/ws``).

    ``token`` is a text, or is called, sync or async, for a new one before each connection and before the old
    one expires; what it raises is raised here until there is a state, and retried from then on.
    ``max_age_seconds``: what `Account.fresh` still calls fresh; a quiet account is confirmed every 5 s.
    ``open_timeout_seconds``: how long to wait for the first state, None for ever. ``tls``: for a private
    certificate authority. ``transports``: those to use, best first.

    Raises ConnectionRefused when the server says no for good, TimeoutError when there is no state in time,
    ValueError for a URL, channel or token that cannot be right.
    """
    session, signal = Session(), Signal()
    chosen = [transport for name in transports for transport in TRANSPORTS if transport.name == name]
    connection = Connection(
        address=address.parse(url),
        tokens=TokenSource(token),
        channels=in_order(channels),
        transports=chosen,
        tls=tls,
        session=session,
        signal=signal,
    )
    runner = asyncio.get_running_loop().create_task(connection.run(), name="guardwire client")
    try:
        await _first_state(session, connection, signal, open_timeout_seconds)
        yield Account(session, connection, signal, max_age_seconds=max_age_seconds)
    finally:
        runner.cancel()
        await asyncio.wait([runner])


async def _first_state(
    session: Session, connection: Connection, signal: Signal, timeout_seconds: float | None
) -> None:
    try:
        async with asyncio.timeout(timeout_seconds):
            while session.held is None:
                if connection.failure is not None:
                    raise connection.failure
                await signal.wait()
    except TimeoutError as error:
        ending = connection.last_ending
        raise TimeoutError(
            f"no state in {timeout_seconds} s: {ending.reason if ending else 'no answer'}"
        ) from error

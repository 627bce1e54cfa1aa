"""`connect`: opens a live mirror of one account."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from guardwire.account import Account, Change
from guardwire.alerts import OpenAlert
from guardwire.connection import TRANSPORTS, Connection, Notifier, Token, TokenSource
from guardwire.errors import ClientError, ConnectionRefused, RequestRefused, StaleState
from guardwire.link import TransportName, parse_address
from guardwire.mirror import Level, MirroredAccount
from guardwire.state import DEFAULT_CHANNELS, order_channels
from guardwire.timing import Timing

__all__ = [
    "Account",
    "Change",
    "ClientError",
    "ConnectionRefused",
    "Level",
    "OpenAlert",
    "RequestRefused",
    "StaleState",
    "Token",
    "connect",
]

#: For the answers to acknowledgements, before a connection is closed.
_LAST_WORDS_SECONDS: Final = 2.0


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: Token,
    channels: Iterable[str] = DEFAULT_CHANNELS,
    max_age_seconds: float = 10.0,
    open_timeout_seconds: float | None = 30.0,
    tls: ssl.SSLContext | None = None,
    transports: Sequence[TransportName] = ("websocket", "sse", "poll"),
    timing: Timing | None = None,
) -> AsyncIterator[Account]:
    """Mirror the account that ``token`` is for, from ``url`` (``https://host``, or ``wss://host/ws``).

    ``token``: a text, or a callback, sync or async, that gives a new one. It is called before each connection, before
    the present token expires, and once more when the server refused a token. An exception from it is raised here until
    there is a state; later the callback is called again.
    ``max_age_seconds``: the age up to which `Account.fresh` calls a state fresh. A quiet account is confirmed by each
    heartbeat, every 5 s unless the server is set otherwise.
    ``open_timeout_seconds``: how long to wait for the first state, None for ever.
    ``channels``: ``alerts`` among them is asked for once the server has offered it.
    ``tls``: for a private certificate authority.
    ``transports``: those to use, in any order.
    ``timing``: the client's own time limits.

    Raises ConnectionRefused when the server refuses for good, TimeoutError when there is no state in time, and
    ValueError for a URL, channel or token that cannot be right.
    """
    timing = timing or Timing()
    mirrored, notifier = MirroredAccount(timing), Notifier()
    connection = Connection(
        address=parse_address(url),
        tokens=TokenSource(token, timing),
        channels=order_channels(channels),
        transports=[name for name in TRANSPORTS if name in transports],
        tls=tls,
        mirrored=mirrored,
        notifier=notifier,
        timing=timing,
    )
    runner = asyncio.get_running_loop().create_task(connection.run(), name="guardwire client")
    try:
        await _wait_for_state(mirrored, connection, notifier, open_timeout_seconds)
        yield Account(mirrored, connection, notifier, max_age_seconds=max_age_seconds)
    finally:
        if connection.acknowledgements.are_pending:
            await connection.finish_requests(within_seconds=_LAST_WORDS_SECONDS)
        runner.cancel()
        await asyncio.wait([runner])


async def _wait_for_state(
    mirrored: MirroredAccount, connection: Connection, notifier: Notifier, timeout_seconds: float | None
) -> None:
    try:
        async with asyncio.timeout(timeout_seconds):
            while mirrored.held is None or mirrored.awaits_channels:
                if connection.failure is not None:
                    raise connection.failure
                await notifier.wait()
    except TimeoutError as error:
        ending = connection.last_ending
        reason = ending.reason if ending else "no answer"
        raise TimeoutError(f"no state in {timeout_seconds} s: {reason}") from error

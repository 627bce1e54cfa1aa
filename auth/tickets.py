"""One-time tickets, for browsers: `EventSource` and `WebSocket` cannot set an Authorization header.

A ticket is 256 random bits. Redis holds the ticket's digest for some seconds, with the identity behind it. A node
redeems a ticket by one atomic GETDEL, so exactly one of many attempts on many nodes succeeds.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from auth.identity import Identity
from auth.refusals import refusal
from auth.tokens import digest

KEY_PREFIX: Final = "guardwire:ticket:"
TICKET_SECONDS: Final = 30.0

_TICKET: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_TICKET_BYTES: Final = 32
#: This limit holds even when the Redis client that was passed in has no timeouts of its own.
_REDIS_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """A new ticket, and how long it can be redeemed."""

    text: str = field(repr=False)
    expires_in_seconds: float


class Tickets:
    """Issues and redeems tickets in Redis; without Redis both raise AuthenticationError(unavailable)."""

    def __init__(
        self,
        *,
        redis: Redis | None,
        confirm: Callable[[Identity], Awaitable[None]],
        ticket_seconds: float = TICKET_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``confirm`` raises AuthenticationError for an identity that is no longer valid; ``clock`` gives unix
        seconds.
        """
        self._redis = redis
        self._confirm = confirm
        self._ticket_seconds = ticket_seconds
        self._clock = clock

    async def issue(self, identity: Identity) -> Ticket:
        """A new ticket for ``identity``, valid once, and no longer than the token behind it."""
        left_seconds = min(self._ticket_seconds, identity.expires_at - self._clock())
        if left_seconds < 0.001:
            raise refusal("expired")
        text = secrets.token_urlsafe(_TICKET_BYTES)
        value = msgspec.json.encode(identity)
        redis = self._connected()
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                await redis.set(_key(text), value, px=int(left_seconds * 1000))
        except (RedisError, OSError, TimeoutError):
            raise refusal("unavailable") from None
        return Ticket(text, left_seconds)

    async def redeem(self, text: str) -> Identity:
        """The identity behind ``text``; raises AuthenticationError(bad_ticket) from the second time on."""
        if not _TICKET.fullmatch(text):
            raise refusal("bad_ticket")
        redis = self._connected()
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                value = await redis.getdel(_key(text))
        except (RedisError, OSError, TimeoutError):
            raise refusal("unavailable") from None
        if value is None:
            raise refusal("bad_ticket")
        identity = _identity(value)
        await self._confirm(identity)
        return identity

    def _connected(self) -> Redis:
        if self._redis is None:
            raise refusal("unavailable")
        return self._redis


def _key(text: str) -> str:
    return KEY_PREFIX + digest(text).hex()


def _identity(value: bytes | str) -> Identity:
    try:
        return msgspec.json.decode(value, type=Identity)
    except msgspec.DecodeError:  # another program wrote under our key
        raise refusal("bad_ticket") from None

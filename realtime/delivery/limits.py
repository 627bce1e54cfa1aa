"""Limits of clients: connections of one user, sockets without a user, and requests of one user that cost the database
something.

A crowd that connects and sends nothing could otherwise take every file descriptor, for seconds at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from ipaddress import IPv6Address, ip_address
from typing import Final, Literal
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.types import Scope

from realtime.metrics import METRICS
from realtime.store.leases import LEASE_SECONDS, Leases

#: Frames that a client may send in a second, and the longest one.
MAX_FRAMES_PER_SECOND: Final = 10
MAX_FRAME_BYTES: Final = 16_384


class RateLimit:
    """``per_second`` requests a user, with ``burst`` at once, on this node; the generic cell rate algorithm.

    For each user one time is kept, and only while it lies ahead, so memory is bounded by the requests of the last
    seconds.
    """

    def __init__(self, *, per_second: float, burst: int) -> None:
        self._interval_seconds = 1 / per_second
        self._allowance_seconds = burst / per_second
        self._free_at: dict[UUID, float] = {}
        self._swept_at = 0.0

    def wait_seconds(self, user_id: UUID, now: float) -> int:
        """0 when the request may go on, which is counted then; else whole seconds to wait. ``now`` is monotonic
        seconds.
        """
        self._forget_idle(now)
        free_at = max(self._free_at.get(user_id, 0.0), now) + self._interval_seconds
        over_seconds = free_at - now - self._allowance_seconds
        # Sums of floats err by less than a microsecond, and a burst of exactly the allowed size must pass.
        if over_seconds > 1e-6:
            return max(1, math.ceil(over_seconds))
        self._free_at[user_id] = free_at
        return 0

    def _forget_idle(self, now: float) -> None:
        if now - self._swept_at > self._allowance_seconds:
            self._swept_at = now
            self._free_at = {user_id: free_at for user_id, free_at in self._free_at.items() if free_at > now}


_RENEW_SECONDS: Final = LEASE_SECONDS / 3
RETRY_AFTER_SECONDS: Final = LEASE_SECONDS
TOO_MANY: Final = "Too many connections of this user: close one first."


class Admission:
    """Admits connections of a user, on any transport. ``leases`` is None without Redis: then each node counts alone."""

    def __init__(self, *, leases: Leases | None, most_per_user: int) -> None:
        self._leases = leases
        self._most_per_user = most_per_user
        self._counts: Counter[UUID] = Counter()
        self._held: dict[str, UUID] = {}
        self._given_back: dict[str, UUID] = {}
        self._any_given_back = asyncio.Event()

    async def admit(self, user_id: UUID) -> str | None:
        """A lease for one more connection, to be given back with `leave`; None when there are too many."""
        if self._counts[user_id] >= self._most_per_user:
            return None
        # Counted before Redis is asked, so that many at once cannot all pass.
        self._counts[user_id] += 1
        lease = secrets.token_hex(8)
        try:
            admitted = self._leases is None or await self._leases.claim(lease, user_id)
        except BaseException:
            self._uncount(user_id)
            self._give_back(lease, user_id)
            raise
        if not admitted:
            self._uncount(user_id)
            return None
        self._held[lease] = user_id
        return lease

    def leave(self, lease: str) -> None:
        """Give ``lease`` back: its connection is gone."""
        user_id = self._held.pop(lease)
        self._uncount(user_id)
        self._give_back(lease, user_id)

    @contextlib.asynccontextmanager
    async def admitted(self, user_id: UUID) -> AsyncIterator[None]:
        """Admit a connection for the time of one request; raises HTTPException(429) when there are too many."""
        lease = await self.admit(user_id)
        if lease is None:
            raise HTTPException(429, TOO_MANY, headers={"retry-after": str(RETRY_AFTER_SECONDS)})
        try:
            yield
        finally:
            self.leave(lease)

    async def run(self) -> None:
        """Renew the leases of open connections and give back those of closed ones, for ever."""
        if self._leases is None:
            await asyncio.Event().wait()
            return
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RENEW_SECONDS):
                    while True:
                        await self._any_given_back.wait()
                        self._any_given_back.clear()
                        given_back, self._given_back = self._given_back, {}
                        await asyncio.shield(self._leases.release(given_back))
            await self._leases.renew(dict(self._held))

    def _give_back(self, lease: str, user_id: UUID) -> None:
        if self._leases is not None:
            self._given_back[lease] = user_id
            self._any_given_back.set()

    def _uncount(self, user_id: UUID) -> None:
        self._counts[user_id] -= 1
        if not self._counts[user_id]:
            del self._counts[user_id]


#: After this time a refused handshake without a token may be tried again.
ANONYMOUS_RETRY_AFTER_SECONDS: Final = 5
#: One subscriber is usually given a network of this size (RFC 6177), so it counts as one address.
_IPV6_PREFIX_BITS: Final = 64


class AnonymousLimit:
    """Limits sockets without a user; a socket counts from its handshake until its hello is accepted, or it is gone."""

    def __init__(self, *, most: int, most_per_address: int) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._counts: Counter[str] = Counter()
        self._all = 0

    def refusal(self, address: str) -> Literal["all", "address"] | None:
        """The limit that one more handshake from ``address`` would exceed; None when it may come in."""
        exceeded: Literal["all", "address"] | None = None
        if self._all >= self._most:
            exceeded = "all"
        elif self._counts[address] >= self._most_per_address:
            exceeded = "address"
        if exceeded is not None:
            METRICS.anonymous_refused.add(1, exceeded)
        return exceeded

    def enter(self, address: str) -> None:
        """Count one more open socket from ``address``."""
        self._counts[address] += 1
        self._count(1)

    def leave(self, address: str) -> None:
        """Count one less: its client has identified itself, or is gone."""
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]
        self._count(-1)

    def _count(self, change: int) -> None:
        self._all += change
        METRICS.anonymous_sockets.set(self._all)


def address_of(scope: Scope) -> str:
    """The address of a client, of IPv6 the network; "" where it is not known.

    The scope's client is the peer of the TCP connection. Behind a trusted proxy it is the client that the proxy names.
    """
    client = scope.get("client")
    try:
        address = ip_address("" if client is None else client[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{int(address) >> (128 - _IPV6_PREFIX_BITS):x}"
    return str(address)

"""How many connections one user may hold: counted here at once, and across nodes as far as Redis can tell."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

from starlette.exceptions import HTTPException

from realtime.store.leases import LEASE_SECONDS, Leases

_RENEW_SECONDS: Final = LEASE_SECONDS / 3
RETRY_AFTER_SECONDS: Final = LEASE_SECONDS
TOO_MANY: Final = "Too many connections of this user: close one first."


class Admission:
    """Admits connections of any transport; ``leases`` is None without Redis: then each node counts alone."""

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
        """The connection is gone."""
        user_id = self._held.pop(lease)
        self._uncount(user_id)
        self._give_back(lease, user_id)

    @contextlib.asynccontextmanager
    async def admitted(self, user_id: UUID) -> AsyncIterator[None]:
        """For the time of one request; raises HTTPException(429) when there are too many."""
        lease = await self.admit(user_id)
        if lease is None:
            raise HTTPException(429, TOO_MANY, headers={"retry-after": str(RETRY_AFTER_SECONDS)})
        try:
            yield
        finally:
            self.leave(lease)

    async def run(self) -> None:
        """Renew what is held and give back what is not, for ever."""
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

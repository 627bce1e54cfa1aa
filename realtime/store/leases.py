"""Leases on connections, counted across nodes in Redis. The leases of a dead node end by themselves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Literal
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from realtime.store.script import Script

log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 15
_BATCH: Final = 500


class Leases:
    """At most ``most_per_user`` leases of each user, over all nodes that share this Redis."""

    def __init__(self, redis: Redis, *, most_per_user: int) -> None:
        self._script = Script(redis, "leases.lua")
        self._most_per_user = most_per_user
        self._claims: dict[str, tuple[UUID, asyncio.Future[bool]]] = {}
        self._claiming: asyncio.Task[None] | None = None
        self._without_redis = False

    async def claim(self, lease: str, user_id: UUID) -> bool:
        """Whether ``user_id`` may have one more lease.

        True when Redis does not answer, because each node also counts its own connections.
        """
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._claims[lease] = user_id, answer
        if self._claiming is None:
            self._claiming = asyncio.create_task(self._claim_all(), name="claim")
        return await answer

    async def renew(self, leases: Mapping[str, UUID]) -> None:
        """Extend these leases, each with its user; a lease that Redis lost is made again."""
        await self._call("renew", leases)

    async def release(self, leases: Mapping[str, UUID]) -> None:
        """Release these leases, each with its user."""
        await self._call("release", leases)

    async def _claim_all(self) -> None:
        """Claim all waiting leases in one call, then those that came meanwhile, so that a crowd costs few calls."""
        try:
            while self._claims:
                claims, self._claims = self._claims, {}
                users = {lease: user_id for lease, (user_id, _) in claims.items()}
                results = await self._call("claim", users) or [1] * len(claims)
                for (_, answer), result in zip(claims.values(), results, strict=True):
                    if not answer.done():
                        answer.set_result(bool(result))
                # A client that left meanwhile may have released its lease before Redis granted it.
                gone = {lease: user_id for lease, (user_id, answer) in claims.items() if answer.cancelled()}
                if gone:
                    await self._call("release", gone)
        finally:
            self._claiming = None

    async def _call(
        self, what: Literal["claim", "renew", "release"], leases: Mapping[str, UUID]
    ) -> list[int] | None:
        """The answers of the script, which only a claim has; None when Redis does not answer."""
        names, results = list(leases), []
        try:
            for start in range(0, len(names), _BATCH):
                batch = names[start : start + _BATCH]
                results += await self._call_some(what, {name: leases[name] for name in batch})
        except (RedisError, OSError, TimeoutError) as error:
            # One log line for the whole outage, because each of thousands of clients would cause one.
            if not self._without_redis:
                log.warning("connections are counted on this node alone: %s", type(error).__name__)
            self._without_redis = True
            return None
        if self._without_redis:
            log.warning("connections are counted over all nodes again")
        self._without_redis = False
        return results

    async def _call_some(
        self, what: Literal["claim", "renew", "release"], leases: Mapping[str, UUID]
    ) -> list[int]:
        """The answers of the script; 1 for users whose slot of a cluster is not served."""
        names, results = list(leases), [1] * len(leases)
        keys = [[f"guardwire:connections:{user_id}"] for user_id in leases.values()]
        answers = await self._script.run(
            keys,
            lambda numbers: [
                what,
                self._most_per_user,
                LEASE_SECONDS,
                *(names[number] for number in numbers),
            ],
        )
        for numbers, answer in answers:
            if not isinstance(answer, Exception):
                for number, result in zip(numbers, answer, strict=False):
                    results[number] = result
        return results

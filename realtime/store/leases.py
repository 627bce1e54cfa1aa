"""Leases on connections, counted across nodes in Redis; those of a node that died end by themselves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final, Literal
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 15
_BATCH: Final = 500


class Leases:
    """At most ``most_per_user`` leases of a user at once, over all nodes that share this Redis."""

    def __init__(self, redis: Redis, *, most_per_user: int) -> None:
        self._script = redis.register_script(
            resources.files(__package__).joinpath("leases.lua").read_text("utf-8")
        )
        self._most_per_user = most_per_user
        self._claims: dict[str, tuple[UUID, asyncio.Future[bool]]] = {}
        self._claiming: asyncio.Task[None] | None = None
        self._alone = False

    async def claim(self, lease: str, user_id: UUID) -> bool:
        """Whether ``user_id`` may have one more; True when Redis cannot tell, for each node counts its own
        too.
        """
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._claims[lease] = user_id, answer
        if self._claiming is None:
            self._claiming = asyncio.create_task(self._claim_all(), name="claim")
        return await answer

    async def renew(self, leases: Mapping[str, UUID]) -> None:
        """Keep these, each with its user; also those that Redis lost."""
        await self._call("renew", leases)

    async def release(self, leases: Mapping[str, UUID]) -> None:
        """Give these back."""
        await self._call("release", leases)

    async def _claim_all(self) -> None:
        """Ask for all that wait, then for those that came meanwhile: a crowd costs few calls."""
        try:
            while self._claims:
                claims, self._claims = self._claims, {}
                users = {lease: user_id for lease, (user_id, _) in claims.items()}
                results = await self._call("claim", users) or [1] * len(claims)
                for (_, answer), result in zip(claims.values(), results, strict=True):
                    if not answer.done():
                        answer.set_result(bool(result))
                # Those who went away meanwhile may have given back what they did not have yet.
                gone = {lease: user_id for lease, (user_id, answer) in claims.items() if answer.cancelled()}
                if gone:
                    await self._call("release", gone)
        finally:
            self._claiming = None

    async def _call(
        self, what: Literal["claim", "renew", "release"], leases: Mapping[str, UUID]
    ) -> list[int] | None:
        """The script's answers, which only a claim has; None without Redis."""
        names, results = list(leases), []
        try:
            for start in range(0, len(names), _BATCH):
                batch = names[start : start + _BATCH]
                keys = [f"guardwire:connections:{leases[name]}" for name in batch]
                arguments: list[Any] = [what, self._most_per_user, LEASE_SECONDS, *batch]
                results += await self._script(keys=keys, args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            # A crowd that comes meanwhile is one line in the log, not thousands.
            if not self._alone:
                log.warning("connections are counted on this node alone: %s", type(error).__name__)
            self._alone = True
            return None
        if self._alone:
            log.warning("connections are counted over all nodes again")
        self._alone = False
        return results

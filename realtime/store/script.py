"""A Lua script that works for many accounts in one call, where Redis allows it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from realtime.store.cluster import Cluster, slot_of

#: The accounts of one call, by their numbers, and the arguments of the script for them.
Arguments = Callable[[Sequence[int]], Sequence[Any]]


class Script:
    """A script of this package; a single server runs it once for all accounts, a cluster once for each slot."""

    def __init__(self, redis: Redis, file: str) -> None:
        self._redis = redis
        self._text: Final = resources.files(__package__).joinpath(file).read_text("utf-8")
        self._digest: Final = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, keys: Sequence[Sequence[str]], arguments: Arguments) -> list[tuple[list[int], Any]]:
        """Run the script for accounts, each with its ``keys``; all keys of an account have one slot.

        Returns the numbers of the accounts of each call with its answer, or with its error. Raises the error when no
        call had an answer.
        """
        groups = self._group(keys)
        calls = [
            [sum(len(keys[number]) for number in group), *(key for number in group for key in keys[number]),
             *arguments(group)]
            for group in groups
        ]  # fmt: skip
        answers = await self._send(calls)
        if all(isinstance(answer, Exception) for answer in answers):
            raise answers[0]
        return list(zip(groups, answers, strict=True))

    async def _send(self, calls: Sequence[Sequence[Any]]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command("EVALSHA", self._digest, *call)
        answers = await pipeline.execute(raise_on_error=False)
        missing = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if missing:  # the server has started since, or another one has become the primary
            for number in missing:
                pipeline.execute_command("EVAL", self._text, *calls[number])
            for number, answer in zip(missing, await pipeline.execute(raise_on_error=False), strict=True):
                answers[number] = answer
        return answers

    def _group(self, keys: Sequence[Sequence[str]]) -> list[list[int]]:
        """The numbers of the accounts of each call."""
        if not isinstance(self._redis, Cluster):
            return [list(range(len(keys)))]
        by_slot: dict[int, list[int]] = defaultdict(list)
        for number, (first, *_) in enumerate(keys):
            by_slot[slot_of(first)].append(number)
        return list(by_slot.values())

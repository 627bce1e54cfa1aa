"""A Redis Cluster: each command goes to the server that owns the slot of its key.

redis-py's own client of a cluster is not used. It closes all its connections and sleeps whenever one slot is not
served, repeats commands whose connection broke, and sends ASKING over another connection than the command behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from realtime.metrics import METRICS
from realtime.redis_url import HostPort

log = logging.getLogger(__name__)

#: How often the cluster is asked who owns its slots, while some are not served.
LOOK_SECONDS: Final = 0.25
#: The pauses before a command is sent, and sent again after each answer that names another server, or none yet.
_PAUSES_SECONDS: Final = (0.0, 0.0, 0.0, 0.01, 0.05, 0.1)
_NO_CLUSTER: Final = "REDIS_URL names a Redis Cluster, and the server at it is none: write redis:// in place of redis+cluster://"


def slot_of(key: str | bytes) -> int:
    """The slot of ``key``: of the part in braces when it has one."""
    return key_slot(key.encode() if isinstance(key, str) else key)


class SlotNotServed(RedisConnectionError):
    """The server that owns the slot does not answer, or the slot has no owner."""


class _Call:
    """A command on its way: its answer, or the error that it ended with."""

    __slots__ = ("answer", "args", "asked", "options", "slot")

    def __init__(self, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        self.args = args
        self.options = options
        # EVALSHA digest 2 key key argument…; the first argument of any other command is its key.
        self.slot = slot_of(args[3 if args[0] in ("EVAL", "EVALSHA") else 1])
        #: The server that takes over the slot just now, to be asked for this command alone.
        self.asked: HostPort | None = None
        self.answer: Any = SlotNotServed("it was not sent")


class Cluster(Redis):
    """A client of a Redis Cluster, for commands whose keys have one slot, and for pipelines of such commands.

    A server that does not answer fails the commands for its slots, at once after the first one, and no others. While
    any slot is not served, a task asks the cluster for the owners, so that a failover is followed by itself.
    """

    def __init__(
        self,
        seeds: Sequence[HostPort],
        *,
        connect: Callable[[HostPort], Redis],
        deadline_seconds: float,
    ) -> None:
        """``connect`` makes a client of one server; ``seeds`` are asked for the others."""
        self._seeds = tuple(seeds)
        self._connect = connect
        self._deadline_seconds = deadline_seconds
        self._clients: dict[HostPort, Redis] = {}
        #: The owner of each slot; None for a slot without one.
        self._owners: list[HostPort | None] = [None] * SLOTS
        self._replicas: set[HostPort] = set()
        self._away: set[HostPort] = set()
        self._has_looked = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._lost_slots = 0
        self._has_warned = False
        self._is_closed = False

    # Commands. Those that redis-py defines, such as `set`, all come to `execute_command`.

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """The answer of one command; raises its error."""
        (answer,) = await self.send([_Call(args, options)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pipeline(  # type: ignore[override]
        self, transaction: bool = True, shard_hint: str | None = None
    ) -> Pipeline:
        """Commands that are sent together; those for one server arrive there in this order."""
        assert not transaction
        return Pipeline(self)

    async def info(self, section: str | None = None, *args: str, **options: Any) -> Any:
        """The answer of one of the servers; servers of a cluster are configured alike."""
        await self._first_look()
        servers = {owner for owner in self._owners if owner is not None} - self._away
        if not servers:
            raise SlotNotServed("no server of the cluster answers")
        return await self._client(min(servers)).info(section, *args, **options)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections to all servers."""
        # Python 3.11 can lose a cancellation that arrives while redis-py sends.
        self._is_closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._forget(list(self._clients))

    async def send(self, calls: Sequence[_Call]) -> list[Any]:
        """The answer of each call, or the error in its place.

        An answer that names another server has not been executed, so that the command is sent again. A command whose
        connection broke may have been, so that it is not.
        """
        await self._first_look()
        waiting = list(calls)
        try:
            async with asyncio.timeout(2 * self._deadline_seconds):
                for pause_seconds in _PAUSES_SECONDS:
                    await asyncio.sleep(pause_seconds)
                    await self._send_once(waiting)
                    waiting = [call for call in waiting if self._is_redirected(call)]
                    if not waiting:
                        break
        except TimeoutError:
            log.debug("%d commands were redirected for too long", len(waiting))
        return [_as_outage(call.answer) for call in calls]

    async def _send_once(self, calls: Iterable[_Call]) -> None:
        by_server: dict[HostPort | None, list[_Call]] = defaultdict(list)
        for call in calls:
            by_server[call.asked or self._owners[call.slot]].append(call)
        await asyncio.gather(*(self._send_to(server, some) for server, some in by_server.items()))

    async def _send_to(self, server: HostPort | None, calls: Sequence[_Call]) -> None:
        """Send ``calls`` to ``server``, None for slots without an owner; each call then has its answer."""
        if server is None or server in self._away:
            answers: Sequence[Any] = [SlotNotServed("no server answers for this slot")] * len(calls)
            self._look()
        else:
            try:
                async with asyncio.timeout(self._deadline_seconds):
                    answers = await self._send_pipeline(server, calls)
            except (RedisError, OSError, TimeoutError) as error:
                log.debug("the server %s:%d of the Redis Cluster does not answer: %r", *server, error)
                answers = [SlotNotServed(f"{type(error).__name__} at the owner of this slot")] * len(calls)
                self._away.add(server)
                self._look()
        for call, answer in zip(calls, answers, strict=True):
            call.answer = _with_host(answer, server)

    async def _send_pipeline(self, server: HostPort, calls: Sequence[_Call]) -> list[Any]:
        pipeline = self._client(server).pipeline(transaction=False)
        for call in calls:
            if call.asked is not None:
                pipeline.execute_command("ASKING")
            pipeline.execute_command(*call.args, **call.options)
        answers = iter(await pipeline.execute(raise_on_error=False))
        return [next(answers) if call.asked is None else (next(answers), next(answers))[1] for call in calls]

    def _is_redirected(self, call: _Call) -> bool:
        """Whether ``call`` is to be sent again, because its answer says that it was not executed."""
        answer = call.answer
        if isinstance(answer, MovedError):
            call.asked = None
            self._owners[call.slot] = HostPort(answer.host, answer.port)
            self._look()  # a failover moves more than one slot
        elif isinstance(answer, AskError):
            call.asked = HostPort(answer.host, answer.port)
        elif isinstance(answer, ClusterDownError):
            self._look()
            return False
        return isinstance(answer, (AskError, TryAgainError))

    # The owners of the slots.

    async def _first_look(self) -> None:
        if not self._has_looked.is_set():
            self._look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._deadline_seconds):
                    await self._has_looked.wait()

    def _look(self) -> None:
        """Look for the owners of all slots until each is served; the task ends then."""
        if not self._is_closed and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look_until_all_are_served(), name="redis cluster")

    async def _look_until_all_are_served(self) -> None:
        while not self._is_closed:
            found = await self._find_owners()
            await self._find_who_is_back()
            self._note_lost_slots()
            self._has_looked.set()
            await asyncio.sleep(LOOK_SECONDS)
            if found and not self._lost_slots and not self._away:
                return

    async def _find_owners(self) -> bool:
        """Ask one server after the other, at random, for the owners of all slots; whether one answered."""
        known = list({owner for owner in self._owners if owner} | self._replicas | set(self._seeds))
        random.shuffle(known)
        known.sort(key=self._away.__contains__)  # those that answered lately come first
        for server in known:
            try:
                async with asyncio.timeout(self._deadline_seconds):
                    client: Any = self._client(server)
                    ranges = await client.execute_command("CLUSTER SLOTS")
            except (RedisError, OSError, TimeoutError) as error:
                self._warn_of_no_cluster(error)
                continue
            await self._take_owners(server, ranges)
            return True
        return False

    async def _take_owners(self, answering: HostPort, ranges: Sequence[Any]) -> None:
        owners: list[HostPort | None] = [None] * SLOTS
        replicas: set[HostPort] = set()
        for first, last, owner, *others in ranges:
            owners[first : last + 1] = [_address(owner, answering)] * (last + 1 - first)
            replicas.update(_address(each, answering) for each in others)
        self._owners, self._replicas = owners, replicas
        used = {owner for owner in owners if owner is not None} | replicas | set(self._seeds)
        await self._forget([server for server in self._clients if server not in used])

    async def _find_who_is_back(self) -> None:
        """Ask the servers that did not answer, all at once; those that do get commands again."""
        owners = set(self._owners)
        self._away &= owners  # a server that owns no slot any more is not missed

        async def ask(server: HostPort) -> None:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(self._deadline_seconds):
                    await self._client(server).ping()
                    self._away.discard(server)

        await asyncio.gather(*(ask(server) for server in list(self._away)))

    def _note_lost_slots(self) -> None:
        lost = sum(owner is None or owner in self._away for owner in self._owners)
        METRICS.redis_slots_lost.set(lost)
        if lost and not self._lost_slots:
            log.warning(
                "%d of %d slots of the Redis Cluster are not served: their accounts are pushed, and not remembered",
                lost,
                SLOTS,
            )
        elif not lost and self._lost_slots:
            log.warning("all slots of the Redis Cluster are served again")
        self._lost_slots = lost

    def _warn_of_no_cluster(self, error: Exception) -> None:
        if (
            isinstance(error, ResponseError)
            and "cluster support disabled" in str(error)
            and not self._has_warned
        ):
            self._has_warned = True
            log.warning(_NO_CLUSTER)

    # The clients of the servers.

    def _client(self, server: HostPort) -> Redis:
        if server not in self._clients:
            self._clients[server] = self._connect(server)
        return self._clients[server]

    async def _forget(self, servers: Iterable[HostPort]) -> None:
        for server in servers:
            with contextlib.suppress(RedisError, OSError):
                await self._clients.pop(server).aclose()


class Pipeline(Redis):
    """Commands that are sent together, each to the server that owns the slot of its key."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._calls: list[_Call] = []

    def execute_command(self, *args: Any, **options: Any) -> Pipeline:  # type: ignore[override]
        """Add a command."""
        self._calls.append(_Call(args, options))
        return self

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """The answers in the order of the commands, with errors among them unless ``raise_on_error``.

        Raises SlotNotServed when no command reached its server.
        """
        calls, self._calls = self._calls, []
        answers = await self._cluster.send(calls)
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        is_outage = len(errors) == len(answers) and all(isinstance(error, SlotNotServed) for error in errors)
        if errors and (raise_on_error or is_outage):
            raise errors[0]
        return answers


def _address(server: Sequence[Any], answering: HostPort) -> HostPort:
    """The address of a server in an answer to CLUSTER SLOTS; a host that is not named is that of ``answering``."""
    host = server[0].decode() if isinstance(server[0], bytes) else server[0]
    return HostPort(host or answering.host, int(server[1]))


def _with_host(answer: Any, server: HostPort | None) -> Any:
    """``answer``; a redirection that names no host leads to another port of the server that gave it."""
    if isinstance(answer, AskError) and not answer.host and server is not None:
        answer.host = server.host
    return answer


def _as_outage(answer: Any) -> Any:
    """``answer``, or that the slot is not served when the cluster could not say who serves it."""
    if isinstance(answer, (AskError, TryAgainError, ClusterDownError)):
        return SlotNotServed(f"{type(answer).__name__}: {answer}")
    return answer

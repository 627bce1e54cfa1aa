"""Snapshots in Redis: what any node can serve without SQL, and the edges that lead from one revision to the
next.

Redis is never in the way of a push: every call has a deadline, a failure is an empty answer (and `available`
says so), and nothing is retried blindly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from realtime.owners import blocked
from realtime.patch import State
from realtime.state import STATE_VERSION
from realtime.store.snapshot import Snapshot

log = logging.getLogger(__name__)

SNAPSHOT_TTL_SECONDS: Final = 3600
EDGE_COUNT: Final = 64
EDGE_BYTES: Final = 32_768
EDGE_SECONDS: Final = 600
_DEADLINE_SECONDS: Final = 1.0
_CONNECTIONS: Final = 16
_BATCH: Final = 100
#: A stored state and a stored patch begin with whose they are, as the 16 bytes of its UUID.
_OWNER_BYTES: Final = 16

_decode_state = msgspec.json.Decoder(dict[str, Any]).decode


class Edge(NamedTuple):
    """A step that some node took: the merge patch, as JSON, of the account ``owner`` from ``base`` to
    ``revision``.
    """

    owner: UUID
    base: int
    revision: int
    patch: bytes


class Stored(NamedTuple):
    """What Redis remembers of one account; ``edges`` are in the order in which they were stored."""

    snapshot: Snapshot
    edges: tuple[Edge, ...]


class Step(NamedTuple):
    """A new snapshot and the one it was reached from, None at the start."""

    snapshot: Snapshot
    base: Snapshot | None


def connect(url: str) -> Redis:
    """A client whose every command fails within a second instead of hanging on a stopped server.

    Commands beyond ``_CONNECTIONS`` at once wait for their turn: a thousand clients that return together are
    a queue of milliseconds, not an error.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=_DEADLINE_SECONDS,
        socket_timeout=_DEADLINE_SECONDS,
        socket_connect_timeout=_DEADLINE_SECONDS,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        health_check_interval=0,
    )
    return Redis.from_pool(pool)


class SnapshotStore:
    """Reads and writes snapshots; ``channels`` are those that a stored state must have to be believed."""

    def __init__(self, redis: Redis, *, channels: Sequence[str]) -> None:
        self._redis = redis
        self._channels = frozenset(channels)
        self._commit = redis.register_script(
            resources.files(__package__).joinpath("commit.lua").read_text("utf-8")
        )
        self.available = True

    async def commit(self, steps: Sequence[Step]) -> list[int]:
        """Store each snapshot unless a newer one is there: 1 stored, 0 not newer, -1 of an older epoch; []
        without Redis.
        """
        results: list[int] = []
        try:
            for start in range(0, len(steps), _BATCH):
                keys, arguments = _commit_arguments(steps[start : start + _BATCH])
                results += await self._commit(keys=keys, args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._lost(error)
            return []
        self._found()
        return results

    async def load(self, user_ids: Iterable[UUID], *, with_edges: bool = True) -> dict[UUID, Stored]:
        """What is remembered of these accounts; absent where nothing is, or where it cannot be believed."""
        wanted = list(user_ids)
        last_edge = -1 if with_edges else -(2**31)
        try:
            pipeline = self._redis.pipeline(transaction=False)
            for user_id in wanted:
                pipeline.hgetall(_snapshot_key(user_id))
                pipeline.lrange(_edges_key(user_id), 0, last_edge)
            answers = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            self._lost(error)
            return {}
        self._found()
        found = {}
        for user_id, fields, edges in zip(wanted, answers[::2], answers[1::2], strict=True):
            stored = self._believe(user_id, fields, edges)
            if stored is not None:
                found[user_id] = stored
        return found

    def _believe(self, user_id: UUID, fields: Any, edges: Any) -> Stored | None:
        """The stored value, or None when it is missing, another user's, or not what this release would have
        written.
        """
        if not isinstance(fields, dict) or not fields:
            return None
        try:
            owner, document = fields[b"owner"], fields[b"state"]
            # Said twice, so that no field alone can be swapped for another account's.
            if owner != user_id.bytes or not document.startswith(owner):
                blocked("stored snapshot", user_id)
                return None
            state: State = _decode_state(document[_OWNER_BYTES:])
            if state.keys() != self._channels:
                return None
            snapshot = Snapshot(
                user_id=user_id,
                epoch=int(fields[b"epoch"]),
                revision=int(fields[b"revision"]),
                as_of=fields[b"as_of"].decode(),
                state=state,
            )
            return Stored(snapshot, _own(user_id, edges) if isinstance(edges, list) else ())
        except (KeyError, ValueError, msgspec.DecodeError):
            log.warning("a stored snapshot cannot be read and is not used", extra={"user": str(user_id)})
            return None

    def _lost(self, error: Exception) -> None:
        if self.available:
            log.warning("Redis is out of reach; pushes go on without it: %s", type(error).__name__)
        self.available = False

    def _found(self) -> None:
        if not self.available:
            log.warning("Redis is back")
        self.available = True


def _snapshot_key(user_id: UUID) -> str:
    return f"guardwire:{STATE_VERSION}:{{{user_id}}}:snapshot"


def _edges_key(user_id: UUID) -> str:
    return f"guardwire:{STATE_VERSION}:{{{user_id}}}:edges"


def _own(user_id: UUID, texts: Sequence[bytes]) -> tuple[Edge, ...]:
    """The edges in ``texts``; none at all when one of them is another account's."""
    edges = tuple(map(_edge, texts))
    if any(edge.owner != user_id for edge in edges):
        blocked("stored step", user_id)
        return ()
    return edges


def _edge(text: bytes) -> Edge:
    base, revision, _, owned = text.split(b" ", 3)
    return Edge(UUID(bytes=owned[:_OWNER_BYTES]), int(base), int(revision), owned[_OWNER_BYTES:])


def _commit_arguments(steps: Sequence[Step]) -> tuple[list[str], list[Any]]:
    keys: list[str] = []
    arguments: list[Any] = [SNAPSHOT_TTL_SECONDS, EDGE_COUNT, EDGE_BYTES, EDGE_SECONDS, int(time.time())]
    for snapshot, base in steps:
        owner = snapshot.user_id.bytes
        keys += (_snapshot_key(snapshot.user_id), _edges_key(snapshot.user_id))
        channels = tuple(snapshot.state)
        arguments += (
            snapshot.epoch,
            snapshot.revision,
            snapshot.as_of,
            owner,
            owner + snapshot.encoded(channels),
        )
        if base is None or base.epoch != snapshot.epoch:
            arguments += ("", "")
        else:
            arguments += (base.revision, owner + snapshot.patch_from(base, channels))
    return keys, arguments

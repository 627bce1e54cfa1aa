"""Snapshots in Redis: what any node can serve without SQL, and the edges that lead from one revision to the
next.

Redis is never in the way of a push: every call has a deadline, a failure is an empty answer (and `available`
says so), and nothing is retried blindly.
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib import resources
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from guardwire.patch import State, apply
from guardwire.state import CHANNELS, STATE_VERSION
from realtime.history import Edge, Step, Stored, find_path
from realtime.owners import count_blocked
from realtime.snapshot import Snapshot
from realtime.store.redis_pool import PrimaryPool

log = logging.getLogger(__name__)

SNAPSHOT_TTL_SECONDS: Final = 3600
EDGE_COUNT: Final = 64
EDGE_BYTES: Final = 32_768
EDGE_SECONDS: Final = 600
#: A state is stored again after so many edges, so many bytes of them, or so long: the fewer there are, the
#: sooner is the newest one put together; the more, the less is sent. All of them must be kept as edges.
STEPS: Final = 24
STEPS_BYTES: Final = 12_288
STEPS_SECONDS: Final = 300
_DEADLINE_SECONDS: Final = 1.0
_CONNECTIONS: Final = 16
_BATCH: Final = 100
#: A stored state and a stored patch begin with whose they are, as the 16 bytes of its UUID.
_OWNER_BYTES: Final = 16

#: As `commit.lua` takes them.
_LIMITS: Final = (
    SNAPSHOT_TTL_SECONDS, EDGE_COUNT, EDGE_BYTES, EDGE_SECONDS, STEPS, STEPS_BYTES, STEPS_SECONDS,
)  # fmt: skip
_STATE_WANTED: Final = 2
_MOST_DIGITS: Final = 16
#: Those of a stored snapshot that a reader needs; a hash may hold any number of others.
_FIELDS: Final = (b"owner", b"state", b"state_revision", b"epoch", b"revision", b"as_of")

_length = struct.Struct(">I").pack
_decode_state = msgspec.json.Decoder(dict[str, Any]).decode


class Taken(NamedTuple):
    """A step as it is stored: ``base`` is the revision that ``patch`` leads from, None where no step does.

    What the snapshot was reached from is not kept: until this is stored there may be thousands of them.
    """

    snapshot: Snapshot
    base: int | None
    patch: bytes


def taken(step: Step) -> Taken:
    """``step`` as it is stored; there is no history across an epoch."""
    snapshot, base = step
    if base is None or base.epoch != snapshot.epoch:
        return Taken(snapshot, None, b"")
    return Taken(snapshot, base.revision, snapshot.patch_from(base, CHANNELS))


def connect(url: str) -> Redis:
    """A client whose every command fails within a second instead of hanging on a stopped server.

    Commands beyond ``_CONNECTIONS`` at once wait for their turn: a thousand clients that return together are
    a queue of milliseconds, not an error. A server that has become a replica is left (`PrimaryPool`).
    """
    pool = PrimaryPool.from_url(
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
        self._takes_writes = True

    async def commit(self, steps: Sequence[Taken]) -> list[int]:
        """Store each snapshot unless a newer one is there: 1 stored, 0 not newer, -1 of an older epoch; []
        without Redis.
        """
        results: list[int] = []
        try:
            for start in range(0, len(steps), _BATCH):
                results += await self._commit_some(steps[start : start + _BATCH])
        except ResponseError as error:
            self._refused(error)
            return []
        except (RedisError, OSError, TimeoutError) as error:
            self._lost(error)
            return []
        self._found()
        self._refused(None)
        return results

    async def _commit_some(self, steps: Sequence[Taken]) -> list[int]:
        """By their edges where those do, and where not with their states."""
        results = await self._call(steps, with_states=False)
        wanted = [number for number, result in enumerate(results) if result == _STATE_WANTED]
        if wanted:
            again = await self._call([steps[number] for number in wanted], with_states=True)
            for number, result in zip(wanted, again, strict=True):
                results[number] = result
        return results

    async def _call(self, steps: Sequence[Taken], *, with_states: bool) -> list[int]:
        keys = [key(snapshot.user_id) for snapshot, _, _ in steps for key in (_snapshot_key, _edges_key)]
        accounts = b"".join(_account(step, with_state=with_states) for step in steps)
        arguments = (int(time.time()), *_LIMITS, accounts)
        results, removed = await self._commit(keys=keys, args=arguments)
        for number in removed:
            user_id = str(steps[number - 1].snapshot.user_id)
            log.warning("a stored snapshot is not one of ours and is replaced", extra={"user": user_id})
        return list(results)

    async def load(self, user_ids: Iterable[UUID]) -> dict[UUID, Stored]:
        """What is remembered of these accounts; absent where nothing is, or where it cannot be believed."""
        wanted = list(user_ids)
        try:
            pipeline = self._redis.pipeline(transaction=False)
            for user_id in wanted:
                pipeline.hmget(_snapshot_key(user_id), _FIELDS)
                pipeline.lrange(_edges_key(user_id), -EDGE_COUNT, -1)
            answers = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            self._lost(error)
            return {}
        self._found()
        found = {}
        for user_id, values, edges in zip(wanted, answers[::2], answers[1::2], strict=True):
            stored = self._believe(user_id, values, edges)
            if stored is not None:
                found[user_id] = stored
        return found

    def _believe(self, user_id: UUID, values: Any, edges: Any) -> Stored | None:
        """The stored value, or None when it is missing, another user's, or not what this release would have
        written. ``values`` are those of `_FIELDS`, None where one is missing, or the error of a key of
        another type.
        """
        if isinstance(values, list) and not any(values):
            return None
        try:
            if not isinstance(values, list) or None in values:
                raise ValueError("a key of another type, or a field that is missing")
            fields: dict[bytes, bytes] = dict(zip(_FIELDS, values, strict=True))
            owner, document = fields[b"owner"], fields[b"state"]
            # Said twice, so that no field alone can be swapped for another account's.
            if owner != user_id.bytes or not document.startswith(owner):
                count_blocked("stored snapshot", user_id)
                return None
            state: State = _decode_state(document[_OWNER_BYTES:])
            own = _own(user_id, edges) if isinstance(edges, list) else ()
            since = find_path(own, _whole(fields[b"state_revision"]), _whole(fields[b"revision"]))
            if since is None:
                return None
            for edge in since:
                state = apply(state, _decode_state(edge.patch))
            if state.keys() != self._channels:
                return None
            as_of = fields[b"as_of"].decode()
            # It goes into frames as it is.
            datetime.fromisoformat(as_of)
            snapshot = Snapshot(
                user_id=user_id,
                epoch=_whole(fields[b"epoch"]),
                revision=_whole(fields[b"revision"]),
                as_of=as_of,
                state=state,
            )
            return Stored(snapshot, own)
        except (ValueError, TypeError, AttributeError, RecursionError, msgspec.DecodeError):
            log.warning("a stored snapshot cannot be read and is not used", extra={"user": str(user_id)})
            return None

    def _lost(self, error: Exception) -> None:
        if self.available:
            log.warning("Redis is out of reach; pushes go on without it: %s", type(error).__name__)
        self.available = False

    def _refused(self, error: ResponseError | None) -> None:
        """Log when Redis begins to answer writes with ``error``, and when it takes them again (None)."""
        if error is not None and self._takes_writes:
            log.warning("Redis refuses to remember; pushes go on without it: %s", type(error).__name__)
        elif error is None and not self._takes_writes:
            log.warning("Redis remembers again")
        self._takes_writes = error is None

    def _found(self) -> None:
        if not self.available:
            log.warning("Redis is back")
        self.available = True


def _whole(text: bytes) -> int:
    """The number in ``text``, as `commit.lua` reads it: digits alone; raises ValueError."""
    if not text.isdigit() or len(text) > _MOST_DIGITS:
        raise ValueError("not a whole number")
    return int(text)


def _snapshot_key(user_id: UUID) -> str:
    return f"guardwire:{STATE_VERSION}:{{{user_id}}}:snapshot"


def _edges_key(user_id: UUID) -> str:
    return f"guardwire:{STATE_VERSION}:{{{user_id}}}:edges"


def _own(user_id: UUID, texts: Sequence[bytes]) -> tuple[Edge, ...]:
    """The edges in ``texts``; none at all when one of them is another account's."""
    edges = tuple(map(_edge, texts))
    if any(edge.owner != user_id for edge in edges):
        count_blocked("stored step", user_id)
        return ()
    return edges


def _edge(text: bytes) -> Edge:
    base, revision, _, owned = text.split(b" ", 3)
    return Edge(UUID(bytes=owned[:_OWNER_BYTES]), _whole(base), _whole(revision), owned[_OWNER_BYTES:])


def _account(step: Taken, *, with_state: bool) -> bytes:
    """What `commit.lua` takes of one account; a first step has no edge, so its state goes along at once."""
    snapshot, base, patch = step
    owner = snapshot.user_id.bytes
    fields = (
        b"%d" % snapshot.epoch,
        b"%d" % snapshot.revision,
        snapshot.as_of.encode(),
        owner,
        owner + snapshot.encoded(CHANNELS) if with_state or base is None else b"",
        b"" if base is None else b"%d" % base,
        b"" if base is None else owner + patch,
    )
    return b"".join(part for field in fields for part in (_length(len(field)), field))

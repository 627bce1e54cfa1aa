"""Snapshots in Redis, with the edges from one revision to the next, so that any node can serve them without SQL.

A push never waits for Redis. Every call has a deadline, a failed call returns an empty answer and clears `available`,
and no call is repeated.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from guardwire.patch import State, apply
from guardwire.state import CHANNELS, STATE_VERSION
from realtime.history import Edge, Step, Stored, find_path
from realtime.metrics import METRICS
from realtime.owners import count_blocked
from realtime.snapshot import Snapshot
from realtime.store.script import Script

log = logging.getLogger(__name__)

SNAPSHOT_TTL_SECONDS: Final = 3600
EDGE_COUNT: Final = 64
EDGE_BYTES: Final = 32_768
EDGE_SECONDS: Final = 600
#: The whole state is stored again after so many edges, so many bytes of edges, or so long. With fewer edges a reader
#: assembles the newest state faster; with more, a node sends less. The edge list must hold all edges since the state.
STEPS: Final = 24
STEPS_BYTES: Final = 12_288
STEPS_SECONDS: Final = 300
_BATCH: Final = 100
#: When Redis is slower than the feed, the oldest steps are dropped. A client that needed one of them gets a snapshot.
_MOST_WAITING: Final = 20_000
#: One call costs ten times as much as one more key in a call, so steps are collected for this time. Nobody waits for
#: them: a client that changes nodes takes longer to connect.
_GATHER_SECONDS: Final = 0.05
_RESULTS: Final = {1: "stored", 0: "not_newer", -1: "older_epoch"}
#: A stored state and a stored patch begin with the 16 bytes of their owner's UUID.
_OWNER_BYTES: Final = 16

#: In the order of the arguments of `commit.lua`.
_LIMITS: Final = (
    SNAPSHOT_TTL_SECONDS, EDGE_COUNT, EDGE_BYTES, EDGE_SECONDS, STEPS, STEPS_BYTES, STEPS_SECONDS,
)  # fmt: skip
_STATE_WANTED: Final = 2
_MOST_DIGITS: Final = 16
#: The fields of a stored snapshot that a reader needs; the hash has further ones.
_FIELDS: Final = (b"owner", b"state", b"state_revision", b"epoch", b"revision", b"as_of")

_length = struct.Struct(">I").pack
_decode_state = msgspec.json.Decoder(dict[str, Any]).decode


class StoredStep(NamedTuple):
    """A step in the form in which Redis keeps it: ``patch`` leads from revision ``base`` to ``snapshot``.

    Without a previous revision ``base`` is None and ``patch`` empty. The base snapshot itself is not kept, because
    thousands of steps can wait to be stored.
    """

    snapshot: Snapshot
    base: int | None
    patch: bytes


def to_stored(step: Step) -> StoredStep:
    """``step`` in the form in which Redis keeps it; a step across epochs has no base."""
    snapshot, base = step
    if base is None or base.epoch != snapshot.epoch:
        return StoredStep(snapshot, None, b"")
    return StoredStep(snapshot, base.revision, snapshot.patch_from(base, CHANNELS))


class SnapshotStore:
    """Reads and writes snapshots; a stored state must have exactly these ``channels`` to be used."""

    def __init__(
        self, redis: Redis, *, channels: Sequence[str], clock: Callable[[], float] = time.time
    ) -> None:
        """``clock`` gives unix seconds."""
        self._redis = redis
        self._clock = clock
        self._channels = frozenset(channels)
        self._commit = Script(redis, "commit.lua")
        self.available = True
        self._takes_writes = True

    async def commit(self, steps: Sequence[StoredStep]) -> list[int]:
        """Store each snapshot unless a newer one is there.

        Returns for each 1 (stored), 0 (not newer) or -1 (of an older epoch); nothing for those whose server does not
        answer, [] when Redis does not answer.
        """
        results: list[int] = []
        try:
            for start in range(0, len(steps), _BATCH):
                results += await self._commit_some(steps[start : start + _BATCH])
        except ResponseError as error:
            self._note_refusal(error)
            return []
        except (RedisError, OSError, TimeoutError) as error:
            self._note_outage(error)
            return []
        self._note_answer()
        self._note_refusal(None)
        return results

    async def _commit_some(self, steps: Sequence[StoredStep]) -> list[int]:
        """Store the edges alone where `commit.lua` can append them, and the whole states of the others."""
        results = await self._call(steps, with_states=False)
        wanted = [number for number, result in enumerate(results) if result == _STATE_WANTED]
        if wanted:
            again = await self._call([steps[number] for number in wanted], with_states=True)
            for number, result in zip(wanted, again, strict=True):
                results[number] = result
        return [result for result in results if result is not None]

    async def _call(self, steps: Sequence[StoredStep], *, with_states: bool) -> list[int | None]:
        """The result of each step; None where the slot of a cluster is not served."""
        now = int(self._clock())
        results: list[int | None] = [None] * len(steps)
        answers = await self._commit.run(
            [(_snapshot_key(step.snapshot.user_id), _edges_key(step.snapshot.user_id)) for step in steps],
            lambda numbers: (
                now, *_LIMITS, b"".join(_encode_step(steps[number], with_state=with_states) for number in numbers)
            ),
        )  # fmt: skip
        for numbers, answer in answers:
            if isinstance(answer, Exception):
                continue
            for number, result in zip(numbers, answer[0], strict=True):
                results[number] = result
            for nth in answer[1]:
                user_id = str(steps[numbers[nth - 1]].snapshot.user_id)
                log.warning("a stored snapshot has a wrong form and is replaced", extra={"user": user_id})
        return results

    async def load(self, user_ids: Iterable[UUID]) -> dict[UUID, Stored]:
        """The stored snapshots of these accounts; missing and invalid ones are left out."""
        wanted = list(user_ids)
        try:
            pipeline = self._redis.pipeline(transaction=False)
            for user_id in wanted:
                pipeline.hmget(_snapshot_key(user_id), _FIELDS)
                pipeline.lrange(_edges_key(user_id), -EDGE_COUNT, -1)
            answers = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            self._note_outage(error)
            return {}
        self._note_answer()
        found = {}
        for user_id, values, edges in zip(wanted, answers[::2], answers[1::2], strict=True):
            if isinstance(values, RedisConnectionError):  # the slot of a cluster is not served
                continue
            stored = self._read_stored(user_id, values, edges)
            if stored is not None:
                found[user_id] = stored
        return found

    def _read_stored(self, user_id: UUID, values: Any, edges: Any) -> Stored | None:
        """The stored snapshot; None when it is missing, another user's, or not in the form of this release.

        ``values`` are those of `_FIELDS` with None for a missing one, or the error for a key of another type.
        """
        if isinstance(values, list) and not any(values):
            return None
        try:
            if not isinstance(values, list) or None in values:
                raise ValueError("a key of another type, or a field that is missing")
            fields: dict[bytes, bytes] = dict(zip(_FIELDS, values, strict=True))
            owner, document = fields[b"owner"], fields[b"state"]
            # The owner stands in two fields, so that no single field can be exchanged for another account's.
            if owner != user_id.bytes or not document.startswith(owner):
                count_blocked("stored snapshot", user_id)
                return None
            state: State = _decode_state(document[_OWNER_BYTES:])
            own = _own_edges(user_id, edges) if isinstance(edges, list) else ()
            since = find_path(own, _number(fields[b"state_revision"]), _number(fields[b"revision"]))
            if since is None:
                return None
            for edge in since:
                state = apply(state, _decode_state(edge.patch))
            if state.keys() != self._channels:
                return None
            as_of = fields[b"as_of"].decode()
            # This text goes into frames unchanged, so it must be a time.
            datetime.fromisoformat(as_of)
            snapshot = Snapshot(
                user_id=user_id,
                epoch=_number(fields[b"epoch"]),
                revision=_number(fields[b"revision"]),
                as_of=as_of,
                state=state,
            )
            return Stored(snapshot, own)
        except (ValueError, TypeError, AttributeError, RecursionError, msgspec.DecodeError):
            log.warning("a stored snapshot cannot be read and is not used", extra={"user": str(user_id)})
            return None

    def _note_outage(self, error: Exception) -> None:
        if self.available:
            log.warning("Redis is out of reach; pushes go on without it: %s", type(error).__name__)
        self.available = False

    def _note_refusal(self, error: ResponseError | None) -> None:
        """Log when Redis begins to answer writes with ``error``, and when it takes them again (None)."""
        if error is not None and self._takes_writes:
            log.warning("Redis refuses to remember; pushes go on without it: %s", type(error).__name__)
        elif error is None and not self._takes_writes:
            log.warning("Redis remembers again")
        self._takes_writes = error is None

    def _note_answer(self) -> None:
        if not self.available:
            log.warning("Redis is back")
        self.available = True


class SnapshotWriter:
    """Stores steps in Redis after they were pushed to clients, in batches; one batch is stored at a time."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store = store
        self._waiting: list[StoredStep] = []
        self._any = asyncio.Event()

    def remember(self, steps: Sequence[Step]) -> None:
        """Store these soon; never waits."""
        if steps:
            self._waiting.extend(map(to_stored, steps))
            if len(self._waiting) > _MOST_WAITING:
                del self._waiting[: -_MOST_WAITING // 2]
            self._any.set()

    async def run(self) -> None:
        """Store steps for ever; steps that Redis refuses are dropped."""
        while True:
            await self._any.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._any.clear()
            steps, self._waiting = self._waiting, []
            for result in await self._store.commit(steps):
                METRICS.stored.add(1, _RESULTS.get(result, "unknown"))


def _number(text: bytes) -> int:
    """The number in ``text``, which like in `commit.lua` must be digits alone; raises ValueError."""
    if not text.isdigit() or len(text) > _MOST_DIGITS:
        raise ValueError("not a whole number")
    return int(text)


def _snapshot_key(user_id: UUID) -> str:
    return f"guardwire:{STATE_VERSION}:{{{user_id}}}:snapshot"


def _edges_key(user_id: UUID) -> str:
    return f"guardwire:{STATE_VERSION}:{{{user_id}}}:edges"


def _own_edges(user_id: UUID, texts: Sequence[bytes]) -> tuple[Edge, ...]:
    """The edges in ``texts``; an empty tuple when one of them belongs to another account."""
    edges = tuple(map(_read_edge, texts))
    if any(edge.owner != user_id for edge in edges):
        count_blocked("stored step", user_id)
        return ()
    return edges


def _read_edge(text: bytes) -> Edge:
    base, revision, _, owned = text.split(b" ", 3)
    return Edge(UUID(bytes=owned[:_OWNER_BYTES]), _number(base), _number(revision), owned[_OWNER_BYTES:])


def _encode_step(step: StoredStep, *, with_state: bool) -> bytes:
    """The argument of `commit.lua` for one account. A first step has no edge, so its state is sent at once."""
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

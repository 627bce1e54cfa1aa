"""One watched account: its newest snapshot, how fresh that is, and the clients that are subscribed to it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final, Protocol
from uuid import UUID

from guardwire.state import CHANNELS
from realtime.errors import UnavailableError
from realtime.history import Edge, Store, find_path
from realtime.owners import count_blocked, is_same
from realtime.snapshot import Freshness, Snapshot

#: The `age_ms` of a state of unknown age: so great that no client takes the state for fresh.
UNKNOWN_AGE_MS: Final = 2**53 - 1
#: The freshness of an account of which nothing was read.
NEVER_READ: Final = Freshness("", UNKNOWN_AGE_MS)
_FIRST_READ_SECONDS: Final = 10.0
_FIRST_READ_WHILE_STARTING_SECONDS: Final = 3.0
_FIRST_READ_WHILE_BLIND_SECONDS: Final = 0.2
#: A second wait, where Redis has nothing either: an overloaded node may be wrong that the database is away.
_LAST_CHANCE_SECONDS: Final = 2.0
#: How long a client waits that holds a newer state than a standby has replayed.
_CATCH_UP_SECONDS: Final = 3.0
_NOT_READ_YET: Final = "this node has not yet read what you have seen already; try again in a few seconds"
#: A client that claims a newer revision than this node has read makes the node read its account, at most this often.
_LOOK_AGAIN_SECONDS: Final = 1.0
#: Stands for an unknown revision, greater than every other: only a read shows the account's real one.
UNSURE: Final = 2**53
#: Steps kept in memory, to bridge the moment until Redis has them and to do without it on the same node.
_EDGES_KEPT: Final = 16
#: The same for an idle account: without Redis, enough for clients that come back a little later.
_EDGES_KEPT_PACKED: Final = 4


#: Where a client is in the stream: epoch and revision.
StreamPosition = tuple[int, int]


class Subscriber(Protocol):
    """The transport of one client, as the hub sees it; neither call may block or raise."""

    def wake(self, newest: Snapshot, fresh: Freshness, now: float) -> None:
        """A newer snapshot is there."""

    def mark_stale(self, now: float, *, stale: bool) -> None:
        """The account became stale, or is stale no longer."""


class Sweeps(Protocol):
    """When all watched accounts were last compared with the database."""

    swept_at: float
    swept_as_of: str
    #: As `WatchedAccount.waits_since`, while rows wait that concern every account.
    waits_since: float
    waits_as_of: str

    def is_answered(self, now: float) -> bool: ...

    def read_again(self, account: WatchedAccount) -> None: ...

    def claim(self, user_id: UUID, now: float) -> None: ...

    def touched(self, account: WatchedAccount) -> None: ...


class WatchedAccount:
    """One watched account. ``behind``: a newer revision than that of ``snapshot`` is known of, or may exist."""

    __slots__ = (
        "_arrived",
        "_edges",
        "_known",
        "_known_at",
        "_looked_at",
        "_own_as_of",
        "_own_read_at",
        "_sweeps",
        "behind",
        "has_old_rows",
        "is_disputed",
        "snapshot",
        "stale",
        "subscribers",
        "touched_at",
        "unapplied_at",
        "user_id",
        "waits_as_of",
        "waits_since",
        "watched_until",
    )  # fmt: skip

    def __init__(self, user_id: UUID, sweeps: Sweeps, watched_until: float) -> None:
        self.user_id = user_id
        self.snapshot: Snapshot | None = None
        self.subscribers: set[Subscriber] = set()
        self.behind = True
        self.stale = False
        #: An audit found that the snapshot differs from the raw log, and has not found it equal since.
        self.is_disputed = False
        #: While rows of the account wait in the inbox: monotonic seconds of the last sweep before the first of them
        #: was visible, and the database's time then. Infinity while none waits.
        self.waits_since = float("inf")
        self.waits_as_of = ""
        #: Rows of the account have waited for too long.
        self.has_old_rows = False
        #: When the first read found old rows that were not applied, in monotonic seconds.
        self.unapplied_at = float("-inf")
        self.watched_until = watched_until
        #: When the account last changed or was asked for, in monotonic seconds.
        self.touched_at = 0.0
        self._sweeps = sweeps
        self._own_as_of = ""
        self._own_read_at = float("-inf")
        # The newest revision that is known of, and the time at which this node learnt of it.
        self._known = 0
        self._known_at = float("-inf")
        # When a client's claim last made this node read the account.
        self._looked_at = float("-inf")
        self._arrived: asyncio.Future[None] | None = None
        self._edges: deque[Edge] | None = None

    @property
    def revision(self) -> int:
        """The revision of the newest snapshot; -1 before this process has read one."""
        snapshot = self.own_snapshot
        return -1 if snapshot is None or self._own_read_at < 0 else snapshot.revision

    @property
    def own_snapshot(self) -> Snapshot | None:
        """``snapshot``, unless it is another account's: then the next sweep has this one read again."""
        snapshot = self.snapshot
        return snapshot if snapshot is None or is_same(snapshot.user_id, self.user_id) else None

    @property
    def confirmed_at(self) -> float:
        """Monotonic seconds when the read began that last showed ``snapshot`` to be the newest; -inf when
        none did.
        """
        at = self._own_read_at if self.behind else max(self._own_read_at, self._sweeps.swept_at)
        return min(at, self.waits_since, self._sweeps.waits_since)

    def wait(self, since: float, as_of: str, *, is_old: bool) -> None:
        """Rows of the account wait in the inbox; a sweep that began at ``since`` saw none of them."""
        if not is_old or self.waits_since == float("inf"):
            self.waits_since, self.waits_as_of = since, as_of
        self.has_old_rows = is_old

    def begin_unapplied(self, now: float) -> None:
        """The first read found old rows that are not applied: the age of the state is unknown."""
        self.unapplied_at = now
        self.wait(float("-inf"), "", is_old=True)

    def stop_waiting(self) -> None:
        """Every row of the account is applied."""
        self.waits_since, self.waits_as_of, self.has_old_rows = float("inf"), "", False

    def touch(self, now: float) -> None:
        """Something has happened to the account, or a client has asked for it."""
        self.touched_at = now
        self._sweeps.touched(self)

    def prolong(self, until: float) -> None:
        """Watch the account until then at least (monotonic seconds), also without a client."""
        self.watched_until = until

    def mark_disputed(self, disputed: bool) -> None:
        """An audit found that what is shown differs from the log, or (False) that it differs no longer."""
        self.is_disputed = disputed

    def pack(self) -> None:
        """Keep the state in as little memory as possible; the steps that led to it are in Redis by now."""
        if self.snapshot is not None:
            self.snapshot.pack()
        if self._edges is not None:
            self._edges = deque(tuple(self._edges)[-_EDGES_KEPT_PACKED:], maxlen=_EDGES_KEPT)

    def fell_behind(self, revision: int, now: float) -> None:
        """A newer ``revision`` is known of; `UNSURE` where the database differs and no revision says how."""
        self._known, self._known_at = max(self._known, revision), now
        self.behind = True

    def freshness(self, now: float) -> Freshness:
        """When ``snapshot`` was last known to be the newest; of unknown age when only Redis remembered it, or
        while an audit has found it to be wrong.
        """
        if self._own_read_at < 0 or self.is_disputed:
            return Freshness("" if self.snapshot is None else self.snapshot.as_of, UNKNOWN_AGE_MS)
        sweeps = self._sweeps
        at, as_of = self._own_read_at, self._own_as_of
        if not self.behind and sweeps.swept_at > at:
            at, as_of = sweeps.swept_at, sweeps.swept_as_of
        if self.waits_since < at:
            at, as_of = self.waits_since, self.waits_as_of
        if sweeps.waits_since < at:
            at, as_of = sweeps.waits_since, sweeps.waits_as_of
        if at == float("-inf"):
            return Freshness(as_of or self._own_as_of, UNKNOWN_AGE_MS)
        return Freshness(as_of, int((now - at) * 1000))

    def advance(self, snapshot: Snapshot, base: Snapshot | None, *, as_of: str, read_at: float) -> bool:
        """Take what this process read in a read that began at ``read_at``; False when a newer snapshot is
        here already.
        """
        if not is_same(snapshot.user_id, self.user_id):
            count_blocked("hub", self.user_id)
            return False
        held = self.own_snapshot
        if held is not None and (snapshot.epoch, snapshot.revision) < (held.epoch, held.revision):
            return False
        # Equal revisions mean equal state: then only how fresh it is has changed.
        if held is None or (snapshot.epoch, snapshot.revision) != (held.epoch, held.revision):
            self._remember_step(snapshot, base)
            self.snapshot = snapshot
        self._own_as_of, self._own_read_at = as_of, read_at
        # A read shows every revision that was known of when it began.
        if read_at >= self._known_at or snapshot.revision >= self._known:
            self._known, self.behind = 0, False
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)
        return True

    def follow(self, snapshot: Snapshot) -> bool:
        """Take a snapshot that was computed from a delta; False when it is another account's, or does not follow the
        snapshot that is shown.

        A delta does not say how long ago its commit was. Therefore the age of the state counts from the last read or
        sweep that found the snapshot before it to be the newest.
        """
        if not is_same(snapshot.user_id, self.user_id):
            count_blocked("hub", self.user_id)
            return False
        base = self.own_snapshot
        if base is None or self._own_read_at < 0 or snapshot.revision <= base.revision:
            return False
        if self.is_disputed:
            # The snapshot that it would follow is wrong. A read corrects it.
            return False
        self._remember_step(snapshot, base)
        self.snapshot = snapshot
        if snapshot.revision >= self._known:
            self._known, self.behind = 0, False
        return True

    def wake(self, now: float, *, stale: bool) -> None:
        """Wake every client; then report staleness, where it began or ended."""
        assert self.snapshot is not None
        fresh = self.freshness(now)
        for subscriber in tuple(self.subscribers):
            subscriber.wake(self.snapshot, fresh, now)
        self.report_staleness(now, stale=stale)

    def report_staleness(self, now: float, *, stale: bool) -> None:
        """Report to every client that the account became stale, or is stale no longer; nothing where that is known."""
        if stale != self.stale:
            self.stale = stale
            for subscriber in tuple(self.subscribers):
                subscriber.mark_stale(now, stale=stale)

    def end_waits(self) -> None:
        """End the waits for a read, because the database has stopped answering."""
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def first_snapshot(self, store: Store | None, now: float) -> Snapshot:
        """The newest snapshot: from memory, else as soon as the feed has read it, else as Redis remembers it.

        Raises UnavailableError when none of them can answer.
        """
        if self.snapshot is None and not await self._read_arrives(self._patience_seconds(now)):
            if store is not None:
                await self._load_from(store)
            if self.snapshot is None:
                await self._read_arrives(_LAST_CHANCE_SECONDS)
        if self.snapshot is None:
            raise UnavailableError(
                "neither the database nor a snapshot can answer now; try again in a few seconds"
            )
        return self.snapshot

    async def snapshot_for(self, held: StreamPosition | None, store: Store | None, now: float) -> Snapshot:
        """`first_snapshot` for a client that names the position it holds. The snapshot is never older than that
        position, unless a read that began after ``now`` shows nothing newer.

        Nodes learn of a commit one after the other, and a client may come from a node that was first. Any client may
        claim any position, so all claims about an account share one read a second, and a user who claims without end
        is refused. Raises TooManyClaims, and UnavailableError when no read comes.
        """
        newest = await self.first_snapshot(store, now)
        if held is None or not self._is_ahead(held, newest, now):
            return newest
        self._sweeps.claim(self.user_id, now)
        is_read = False
        while self._is_ahead(held, newest, now):
            # After a read the client can be ahead of a standby alone, which is read again until it has replayed more.
            patience_seconds = (
                now + _CATCH_UP_SECONDS - time.monotonic() if is_read else self._patience_seconds(now)
            )
            is_read = await self._read_again(now, patience_seconds)
            assert self.snapshot is not None
            newest = self.snapshot
        return newest

    def _is_ahead(self, held: StreamPosition, newest: Snapshot, now: float) -> bool:
        return (newest.epoch, newest.revision) < held and self._own_read_at < now

    async def _read_again(self, asked_at: float, patience_seconds: float) -> bool:
        """Wait for a read: for any that comes until this account may be looked at again, then (True) for one that
        began after ``asked_at``.
        """
        pause_seconds = self._looked_at + _LOOK_AGAIN_SECONDS - time.monotonic()
        if self._looked_at < asked_at and pause_seconds > 0:
            await self._read_arrives(pause_seconds)
            return False
        if self._looked_at < asked_at:
            self._looked_at = time.monotonic()
            self._sweeps.read_again(self)
        if not await self._read_arrives(patience_seconds):
            raise UnavailableError(_NOT_READ_YET)
        return True

    async def path_from(
        self, held: StreamPosition | None, newest: Snapshot, store: Store | None
    ) -> list[Edge] | None:
        """Steps from the position that a client holds to ``newest``, taken by this node or another. None for a client
        that holds nothing, for a position of another epoch, and when the history does not reach back so far.
        """
        if held is None or held[0] != newest.epoch:
            return None
        revision = held[1]
        if revision == newest.revision:
            return []
        edges = tuple(self._edges or ())
        path = find_path(edges, revision, newest.revision)
        if path is None and store is not None:
            stored = (await store.load([self.user_id])).get(self.user_id)
            if stored is not None and stored.snapshot.epoch == newest.epoch:
                path = find_path((*stored.edges, *edges), revision, newest.revision)
        return path

    async def _load_from(self, store: Store) -> None:
        stored = (await store.load([self.user_id])).get(self.user_id)
        if stored is not None and self.snapshot is None:
            self.snapshot, self.stale = stored.snapshot, True

    async def _read_arrives(self, patience_seconds: float) -> bool:
        if self._arrived is None or self._arrived.done():
            self._arrived = asyncio.get_running_loop().create_future()
        try:
            # Shielded, because other clients wait for the same read.
            async with asyncio.timeout(patience_seconds):
                await asyncio.shield(self._arrived)
        except TimeoutError:
            return False
        return self.snapshot is not None

    def _patience_seconds(self, now: float) -> float:
        if self._sweeps.is_answered(now):
            return _FIRST_READ_SECONDS
        # A node that has just started has not completed a sweep yet, and is not blind for that.
        started = self._sweeps.swept_at > 0
        return _FIRST_READ_WHILE_BLIND_SECONDS if started else _FIRST_READ_WHILE_STARTING_SECONDS

    def _remember_step(self, snapshot: Snapshot, base: Snapshot | None) -> None:
        if base is None or base.epoch != snapshot.epoch:
            self._edges = None
        elif base.revision != snapshot.revision:
            if self._edges is None:
                self._edges = deque(maxlen=_EDGES_KEPT)
            patch = snapshot.patch_from(base, CHANNELS)
            self._edges.append(Edge(self.user_id, base.revision, snapshot.revision, patch))

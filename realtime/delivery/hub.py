"""The watched accounts of this node, their newest snapshots, and the clients that each new snapshot wakes.

The hub is single-threaded and never waits for a client: it sets a pointer and calls `wake`. The feed asks which
accounts are watched and publishes their snapshots; transports attach clients; REST reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Self
from uuid import UUID

from realtime.delivery.limits import RateLimit
from realtime.delivery.stream import Outputs, Stream
from realtime.delivery.watched_account import UNSURE, Subscriber, WatchedAccount
from realtime.errors import TooManyClaims
from realtime.history import Step
from realtime.inbox import NOTHING_WAITS, WaitingAccounts
from realtime.metrics import METRICS
from realtime.snapshot import Freshness, Snapshot

#: An account stays watched for this long after its last reader, so that pollers and reconnects are served
#: from memory.
WATCHED_AFTER_SECONDS: Final = 30.0
#: An account is packed when no client has asked for it and no change has come for this long. Reconciliation loops come
#: every ten seconds, and it is not worth packing their accounts in between.
IDLE_SECONDS: Final = 12.0
#: How often one user may claim to hold a newer revision than this node has read. All sockets of a user may come at once
#: from a node that had read it first, and may do so twice.
CLAIMS_PER_SECOND: Final = 2
CLAIMS_BURST: Final = 20
#: A tick that is so late means that a crowd of clients took all of this node's time.
_STANDSTILL_SECONDS: Final = 1.0


class Hub:
    """The watched accounts of this node. All times are monotonic seconds."""

    def __init__(
        self,
        *,
        mark_dirty: Callable[[UUID], None],
        stale_seconds: float,
        claims_burst: int = CLAIMS_BURST,
        on_watched: Callable[[str], None] = lambda account: None,
        on_forgotten: Callable[[str], None] = lambda account: None,
    ) -> None:
        """``on_watched`` and ``on_forgotten`` get the account that is watched from now on, or no longer."""
        self._mark_dirty = mark_dirty
        self._stale_seconds = stale_seconds
        self._on_watched = on_watched
        self._on_forgotten = on_forgotten
        self._accounts: dict[UUID, WatchedAccount] = {}
        # By the text of their ids. With many nodes, most notifications are about accounts of other nodes, and to make a
        # UUID of each would cost more than to look its text up.
        self._accounts_by_text: dict[str, WatchedAccount] = {}
        self._behind: set[WatchedAccount] = set()
        # Each second these two are looked through, and never all watched accounts.
        self._unread: set[WatchedAccount] = set()
        self._warm: set[WatchedAccount] = set()
        # While all accounts are idle, the answer of `delivered` stays the same, second after second.
        self._delivered: tuple[list[UUID], list[int]] | None = None
        self._was_blind = True
        self._was_answered = False
        self._claims = RateLimit(per_second=CLAIMS_PER_SECOND, burst=claims_burst)
        self._next_cleanup = 0.0
        self._waiting: set[WatchedAccount] = set()
        self._all_have_old_rows = False
        self.swept_at = float("-inf")
        self.waits_since = float("inf")
        self.waits_as_of = ""
        self._answered_at = float("-inf")
        self._ticked_at = float("inf")
        self.swept_as_of = ""

    # Called by the feed.

    def watched(self) -> Iterator[tuple[UUID, int]]:
        """Every watched account and the revision that was last delivered for it (-1: none)."""
        return ((user_id, account.revision) for user_id, account in self._accounts.items())

    def delivered(self) -> tuple[list[UUID], list[int]]:
        """The accounts for which a snapshot was delivered, and its revision for each; not to be changed."""
        if self._delivered is None:
            # Accounts without a delivered revision are already dirty. A sweep that compared them too would have them
            # read twice.
            known = [each for each in self.watched() if each[1] >= 0]
            self._delivered = [user_id for user_id, _ in known], [revision for _, revision in known]
        return self._delivered

    def snapshot_of(self, user_id: UUID) -> Snapshot | None:
        """The newest snapshot of a watched account; None when there is none or it is not watched."""
        account = self._accounts.get(user_id)
        return None if account is None else account.own_snapshot

    def is_watched_text(self, user: str) -> bool:
        """`is_watched` by an account's id as text."""
        return user in self._accounts_by_text

    def snapshot_by_text(self, user: str) -> Snapshot | None:
        """`snapshot_of` by an account's id as text."""
        account = self._accounts_by_text.get(user)
        return None if account is None else account.own_snapshot

    def is_watched(self, user_id: UUID) -> bool:
        """Whether a client of this node is subscribed to this account, or was lately."""
        return user_id in self._accounts

    def is_news(self, user_id: UUID, revision: int) -> bool:
        """Whether the account is watched and this revision of it is not delivered yet; if so, the account is behind
        from now on.
        """
        account = self._accounts.get(user_id)
        if account is None or revision <= account.revision:
            return False
        self._fell_behind(account, revision)
        return True

    def is_behind(self, user_id: UUID) -> bool:
        """Whether a newer revision of a watched account is known of than the delivered one."""
        account = self._accounts.get(user_id)
        return account is not None and account.behind

    def is_settled(self, user_id: UUID) -> bool:
        """Whether no read of an account is needed: it was read and is not behind, or nobody watches it."""
        account = self._accounts.get(user_id)
        return account is None or (account.revision >= 0 and not account.behind)

    def confirm(
        self,
        as_of: str,
        read_at: float,
        changed: Iterable[tuple[UUID, int, int]],
        waiting: WaitingAccounts = NOTHING_WAITS,
    ) -> None:
        """A sweep that began at ``read_at`` found every watched account as it was delivered, except ``changed``:
        for each, the revision that was delivered when the sweep began, and the one that it found. Accounts in
        ``waiting`` have rows that are not applied.
        """
        for user_id, delivered, found in changed:
            account = self._accounts.get(user_id)
            if account is None:
                continue
            if found > account.revision:
                self._fell_behind(account, found)
            elif account.revision == delivered:
                # The delivered revision is gone from the database.
                self._fell_behind(account, UNSURE)
        self.swept_at, self.swept_as_of = read_at, as_of
        self._take_waiting(waiting, read_at)

    def _take_waiting(self, waiting: WaitingAccounts, read_at: float) -> None:
        still: set[WatchedAccount] = set()
        for accounts, is_old in ((waiting.recent, False), (waiting.old, True)):
            for user_id in accounts:
                account = self._accounts.get(user_id) if user_id is not None else None
                if account is not None:
                    account.wait(waiting.read_at, waiting.as_of, is_old=is_old)
                    still.add(account)
        # A sweep that began before a first read found waiting rows did not ask for their account.
        gone = {each for each in self._waiting - still if each.unapplied_at <= read_at}
        self._waiting = (self._waiting - gone) | still
        for account in gone:
            account.stop_waiting()
        concerned: Iterable[WatchedAccount] = gone | still
        if self._all_have_old_rows is not (None in waiting.old):
            self._all_have_old_rows = None in waiting.old
            concerned = tuple(self._accounts.values())
        if None not in waiting.recent | waiting.old:
            self.waits_since, self.waits_as_of = float("inf"), ""
        elif None in waiting.recent or self.waits_since == float("inf"):
            self.waits_since, self.waits_as_of = waiting.read_at, waiting.as_of
        now = time.monotonic()
        for account in concerned:
            account.report_staleness(now, stale=self._is_stale(account, now))

    def publish(
        self, steps: Sequence[Step], *, as_of: str, read_at: float, unapplied: frozenset[UUID] = frozenset()
    ) -> None:
        """Make snapshots that this process read at ``as_of`` the newest of their accounts, and wake the subscribers.

        Accounts in ``unapplied`` have old rows that are not applied, until a sweep finds none.
        """
        now = time.monotonic()
        self._answered_at = max(self._answered_at, read_at)
        for snapshot, base in steps:
            account = self._accounts.get(snapshot.user_id)
            if account is None:
                continue
            delivered = account.revision
            if account.advance(snapshot, base, as_of=as_of, read_at=read_at):
                self._caught_up(account, now)
                if snapshot.user_id in unapplied:
                    account.begin_unapplied(now)
                    self._waiting.add(account)
                if delivered == -1:
                    # Most accounts of a crowd that connects are idle. The others are unpacked with their first change.
                    account.pack()
                account.wake(now, stale=self._is_stale(account, now))
                if delivered not in (-1, snapshot.revision):
                    _measure(account, snapshot, base)

    def follow(self, snapshot: Snapshot) -> bool:
        """Make a snapshot that was computed from a delta the newest of its account, and wake the subscribers; False
        when it does not follow the snapshot that is shown.
        """
        account = self._accounts.get(snapshot.user_id)
        if account is None or not account.follow(snapshot):
            return False
        now = time.monotonic()
        self._caught_up(account, now)
        account.wake(now, stale=self._is_stale(account, now))
        _measure(account, snapshot, None)
        return True

    def mark_disputed(self, user_id: UUID, *, disputed: bool) -> None:
        """An audit found that what is shown of an account differs from its log, or differs no longer."""
        account = self._accounts.get(user_id)
        if account is not None:
            now = time.monotonic()
            account.mark_disputed(disputed)
            account.report_staleness(now, stale=self._is_stale(account, now))

    # Called by transports and REST.

    def attach(self, user_id: UUID, subscriber: Subscriber) -> WatchedAccount:
        """Watch an account for a client; `WatchedAccount.first_snapshot` then waits for its first snapshot."""
        account = self._watched_account(user_id)
        account.subscribers.add(subscriber)
        self._unread.discard(account)
        return account

    def detach(self, account: WatchedAccount, subscriber: Subscriber) -> None:
        """The client is gone; the account stays watched for a while."""
        account.subscribers.discard(subscriber)
        self._prolong(account)

    def reading(self, user_id: UUID) -> WatchedAccount:
        """Watch an account for one answer; it stays watched, so that the next one costs no SQL."""
        account = self._watched_account(user_id)
        self._prolong(account)
        return account

    def blind(self, now: float) -> bool:
        """Whether no sweep has been completed for too long: the database is out of reach."""
        return now - self.swept_at > self._stale_seconds

    def is_answered(self, now: float) -> bool:
        """Whether the database has answered anything lately, as far as this node has had the time to ask."""
        if now - self._ticked_at > _STANDSTILL_SECONDS:
            return True
        return now - max(self.swept_at, self._answered_at) <= self._stale_seconds

    def read_again(self, account: WatchedAccount) -> None:
        """Have an account read again: a client has seen a newer revision on another node."""
        self._fell_behind(account, UNSURE)
        self._mark_dirty(account.user_id)

    def claim(self, user_id: UUID, now: float) -> None:
        """Count a client that claims to hold a newer revision than this node has read; raises TooManyClaims."""
        wait_seconds = self._claims.wait_seconds(user_id, now)
        if wait_seconds:
            raise TooManyClaims(wait_seconds)

    def tick(self, now: float) -> None:
        """Report staleness that began or ended, end waits for a database that stopped answering, and forget accounts
        that no client reads any more. Called a few times a second.
        """
        if now - self._ticked_at > _STANDSTILL_SECONDS:
            # The crowd kept this node from reading, so its clients must not be refused as if the database were away.
            self._answered_at = now
        self._ticked_at = now
        was_answered, self._was_answered = self._was_answered, self.is_answered(now)
        if was_answered and not self._was_answered:
            for account in self._behind:
                account.end_waits()
        blind = self.blind(now)
        # While sweeps complete, only accounts that are behind can become stale. While they do not, an account that was
        # read after the last sweep becomes stale later than the others.
        all_wait = self.waits_since != float("inf")
        concerned = (
            self._accounts.values() if blind or all_wait or self._was_blind else self._behind | self._waiting
        )
        self._was_blind = blind or all_wait
        for account in tuple(concerned):
            account.report_staleness(now, stale=self._is_stale(account, now))
        METRICS.state_age.set(self._age_seconds(now))
        if now >= self._next_cleanup:
            self._next_cleanup = now + 1.0
            self._forget_unread(now)
            self._cool_down(now)

    def _is_stale(self, account: WatchedAccount, now: float) -> bool:
        return self._cannot_vouch(account) or now - account.confirmed_at > self._stale_seconds

    def _cannot_vouch(self, account: WatchedAccount) -> bool:
        """Whether even a read of the account just now would not be fresh."""
        return account.is_disputed or account.has_old_rows or self._all_have_old_rows

    def _watched_account(self, user_id: UUID) -> WatchedAccount:
        account = self._accounts.get(user_id)
        if account is None:
            account = WatchedAccount(user_id, self, time.monotonic() + WATCHED_AFTER_SECONDS)
            self._accounts[user_id] = self._accounts_by_text[text := str(user_id)] = account
            self._on_watched(text)
            METRICS.watched_accounts.set(len(self._accounts))
            self._behind.add(account)
            self._mark_dirty(user_id)
        account.touch(time.monotonic())
        return account

    def touched(self, account: WatchedAccount) -> None:
        """Something has happened to an account, or a client has asked for it (see `WatchedAccount.touch`)."""
        self._warm.add(account)

    def _prolong(self, account: WatchedAccount) -> None:
        account.prolong(time.monotonic() + WATCHED_AFTER_SECONDS)
        if not account.subscribers:
            self._unread.add(account)

    def _fell_behind(self, account: WatchedAccount, revision: int) -> None:
        account.fell_behind(revision, time.monotonic())
        self._behind.add(account)

    def _caught_up(self, account: WatchedAccount, now: float) -> None:
        self._delivered = None
        account.touch(now)
        if not account.behind:
            self._behind.discard(account)

    def _forget_unread(self, now: float) -> None:
        for account in [account for account in self._unread if now > account.watched_until]:
            text = str(account.user_id)
            del self._accounts[account.user_id], self._accounts_by_text[text]
            self._on_forgotten(text)
            self._delivered = None
            for some in (self._unread, self._behind, self._warm, self._waiting):
                some.discard(account)
        METRICS.watched_accounts.set(len(self._accounts))

    def _cool_down(self, now: float) -> None:
        """Drop encodings that no client asked for lately, and pack idle accounts."""
        for account in tuple(self._warm):
            if account.snapshot is not None:
                account.snapshot.forget_unused()
            if now - account.touched_at > IDLE_SECONDS:
                account.pack()
                self._warm.discard(account)

    def _age_seconds(self, now: float) -> float:
        """Seconds since the least fresh account was confirmed, among those that have a snapshot."""
        shown = (account.confirmed_at for account in self._behind if account.revision >= 0)
        return now - min((self.swept_at, *shown))


def _measure(account: WatchedAccount, snapshot: Snapshot, base: Snapshot | None) -> None:
    """Count the push of ``snapshot`` to the subscribers of ``account``."""
    clients = len(account.subscribers)
    if base is not None and base.epoch != snapshot.epoch:
        METRICS.resyncs.add(clients, "epoch")
        return
    # A revision is the time of its commit in microseconds; the database's clock may be ahead of ours.
    METRICS.push_latency.observe(max(0.0, time.time() - snapshot.revision / 1e6), clients)


class Waiter:
    """Attached to ``account`` until `detach`; `changed` is set when a newer snapshot is there or freshness
    changed.
    """

    __slots__ = ("account", "changed")

    def __init__(self, account: WatchedAccount) -> None:
        self.account = account
        self.changed = asyncio.Event()

    @classmethod
    @contextlib.contextmanager
    def attached(cls, hub: Hub, user_id: UUID) -> Iterator[Self]:
        """Watch an account while the context lasts."""
        account = hub.reading(user_id)
        waiter = cls(account)
        hub.attach(user_id, waiter)
        try:
            yield waiter
        finally:
            hub.detach(account, waiter)

    def wake(self, newest: Snapshot, fresh: Freshness, now: float) -> None:
        """See `Subscriber`."""
        self.changed.set()

    def mark_stale(self, now: float, *, stale: bool) -> None:
        """See `Subscriber`."""
        self.changed.set()

    def feed(self, stream: Stream, now: float) -> Outputs:
        """Pass the newest snapshot and the staleness of the account to ``stream``; its outputs."""
        account = self.account
        assert account.snapshot is not None
        fresh = account.freshness(now)
        return [*stream.newer(account.snapshot, fresh, now), *stream.stale(account.stale, fresh, now)]

    async def wait(self, seconds: float) -> bool:
        """Whether the account changed, in state or in freshness, within ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self.changed.wait()
        except TimeoutError:
            return False
        self.changed.clear()
        return True

"""The parts between the database and the hub, made once for a node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from queries.channels import LIVE_QUERIES
from queries.live_query import wire_epoch
from realtime.feed.applier import Applier
from realtime.feed.auditor import Auditor
from realtime.feed.connection import KeptConnection
from realtime.feed.dirty import DirtySet
from realtime.feed.following import Following
from realtime.feed.housekeeping import Housekeeper
from realtime.feed.listener import Listener, listen_while
from realtime.feed.loop import Feed
from realtime.feed.relay.relay import Relay
from realtime.feed.relay.subscriptions import Subscriptions
from realtime.feed.self_test import SelfTest
from realtime.feed.standby import SWEEP_SECONDS, Prober, Standby
from realtime.feed.sweep import Sweeper
from realtime.feed.trouble import Trouble
from realtime.feed.watched import WatchedAccounts
from realtime.history import Step, Store
from realtime.settings import Settings

Task = tuple[str, Callable[[], Awaitable[None]]]


class Intake:
    """Connections and tasks of the feed; ``redis``, ``memory`` and ``remember`` are None without Redis.

    ``engine`` reads, and ``primary`` writes; they are the same unless this node reads a standby. ``name`` is this
    process's among all that compete for the applier's lease. ``on_deliveries`` is called when messages about alerts are
    due.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        engine: AsyncEngine,
        primary: AsyncEngine,
        redis: Any,
        dirty: DirtySet,
        subscriptions: Subscriptions,
        hub: WatchedAccounts,
        memory: Store | None,
        remember: Callable[[Sequence[Step]], None] | None,
        on_deliveries: Callable[[], None],
        trouble: Trouble,
        name: str,
    ) -> None:
        evaluating, sweeping = KeptConnection(engine), KeptConnection(engine)
        housekeeping, probing, raising = [KeptConnection(primary) for _ in range(3)]
        self._kept = [evaluating, sweeping, housekeeping, probing, raising]
        standby = self._standby = (
            Standby(primary=raising, mark_dirty=dirty.mark, is_settled=hub.is_settled)
            if settings.primary_url
            else None
        )
        self._prober = None
        if standby is not None:
            self._prober = Prober(connection=probing, replay=standby.replay, trouble=trouble)
        self._dirty = dirty
        self._hub = hub
        self._trouble = trouble
        trouble.is_starting = True
        self._audits = settings.audit_seconds > 0
        self._feed = Feed(
            connection=evaluating,
            live_queries=LIVE_QUERIES,
            dirty=dirty,
            hub=hub,
            memory=memory,
            remember=remember,
            standby=standby,
            trouble=trouble,
        )
        direct_url = settings.listen_database_url or settings.database_url
        sweeper = self._sweeper = Sweeper(
            connection=sweeping,
            hub=hub,
            dirty=dirty,
            interval_seconds=settings.timing.sweep_seconds
            if standby is None
            else min(settings.timing.sweep_seconds, SWEEP_SECONDS),
            on_waiting=self._wake_applier,
            standby=standby,
            trouble=trouble,
        )
        following = self._following = Following(
            hub=hub, remember=remember, epoch=lambda: wire_epoch(sweeper.epoch), on_notice=self._on_notice
        )
        relay = self._relay = (
            None
            if settings.fanout == "direct" and not settings.relay_url
            else Relay(
                redis_url=settings.relay_url or settings.redis_url,
                name=name,
                subscriptions=subscriptions,
                engine=engine,
                on_text=following.on_relayed,
                on_hearing=sweeper.set_hearing,
                falls_back="listens to PostgreSQL" if standby is None else "sweeps five times a second",
            )
        )
        self.applier = Applier(
            database_url=direct_url,
            name=name,
            on_changes=following.on_changes,
            is_woken=(lambda: sweeper.hearing) if relay is None else relay.is_listening,
            relay=None if relay is None else relay.publisher,
            listener_pid=lambda: self._listener.backend_pid,
            trouble=trouble,
        )
        self._listener = Listener(
            database_url=direct_url,
            on_deltas=following.on_notification,
            on_notice=self._on_heard_notice,
            on_inbox=self._wake_applier,
            on_secret=following.take_secret,
            on_hearing=sweeper.set_hearing if relay is None else relay.set_listening,
            is_own=lambda pid: pid == self.applier.backend_pid,
            send_canary=lambda canary: sweeper.send(canary, soon=relay is not None),
            trouble=trouble,
        )
        self._housekeeper = Housekeeper(connection=housekeeping, on_deliveries=on_deliveries, trouble=trouble)
        self._auditor = Auditor(
            engine=engine,
            hub=hub,
            live_queries=LIVE_QUERIES,
            interval_seconds=settings.audit_seconds,
            trouble=trouble,
        )
        self._self_test = SelfTest(
            engine=engine,
            redis=redis,
            hearing=lambda: sweeper.hearing or standby is not None,
            listens_directly=bool(settings.listen_database_url) or not settings.database_pooled,
            trouble=trouble,
        )

    @property
    def refusal(self) -> str | None:
        """Why the database cannot be served from; None when it can."""
        return self._self_test.refusal

    @property
    def replayed(self) -> Callable[[], tuple[str, float]] | None:
        """Gives how far the standby has replayed the primary: its time, and when that was here. None at a primary."""
        standby = self._standby
        if standby is None:
            return None
        return lambda: (standby.as_of or "", standby.replayed.read_at)

    @property
    def trouble(self) -> str | None:
        """The reason why a part waits for the database; None when no part does."""
        return self._trouble.reason

    @property
    def housekept_at(self) -> float:
        """When housekeeping last succeeded, on the monotonic clock."""
        return self._housekeeper.worked_at

    def tasks(self) -> Iterator[Task]:
        """The endless tasks of this part, each with its name."""
        yield "self-test", self._self_test.run
        yield "sweep", self._sweeper.run
        if self._relay is None:
            yield "listen", self._at_primary(self._listener.run)
        else:
            yield (
                "listen",
                self._at_primary(lambda: listen_while(self._wants_listener, self._listener)),
            )
            yield from self._relay.tasks()
        yield "feed", self._feed.run
        yield "apply", self._at_primary(self.applier.run)
        yield "housekeeping", self._housekeeper.run
        if self._prober is not None:
            yield "probe", self._prober.run
        if self._audits:
            yield "audit", self._auditor.run

    def _at_primary(self, run: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """``run``; at a standby as soon as that is promoted, because a standby takes no LISTEN and no write."""
        standby = self._standby
        if standby is None:
            return run

        async def run_when_promoted() -> None:
            await standby.promoted.wait()
            await run()

        return run_when_promoted

    async def close(self) -> None:
        """Return the connections to the pool; the tasks have ended before."""
        for kept in self._kept:
            await kept.close()

    def _wake_applier(self) -> None:
        self.applier.wake()

    def _wants_listener(self) -> bool:
        """In relay mode the applier listens to the platform's rows and to what others than the applier change."""
        return self._relay is None or self.applier.term is not None or self._relay.wants_listener()

    def _on_heard_notice(self, user_id: UUID, revision: int) -> None:
        self._on_notice(user_id, revision)
        if self._relay is not None:
            self._relay.publisher.publish_notice(user_id, revision)

    def _on_notice(self, user_id: UUID, revision: int) -> None:
        if self._hub.is_news(user_id, revision):
            self._dirty.mark(user_id)

"""The applier: one node makes account state of the rows in the inbox, and publishes the changes.

The lease is a row in PostgreSQL, so one process at a time is the applier. `guardwire.apply` locks that row and refuses
a term that is over, so a successor cannot begin before the last batch of its predecessor has ended. A batch is one
autocommitted statement, and the applier publishes only after its answer has arrived. With a relay it publishes to
Redis, and has the database notify nodes only while some node listens or Redis is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from queries.search_path import connect
from realtime.feed.changes import Changes
from realtime.feed.connection import DATABASE_ERRORS
from realtime.feed.listener import LISTENER_NAME
from realtime.feed.relay.publisher import Publisher
from realtime.feed.trouble import Trouble, reason_of
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

APPLICATION_NAME: Final = "guardwire applier"
_PART: Final = "the applier"

_TAKE: Final = "SELECT guardwire.take_lease($1, $2)"
_RENEW: Final = "SELECT guardwire.renew_lease($1, $2)"
_RELEASE: Final = "SELECT guardwire.release_lease($1)"
# The age of a row is a difference of two times of the database's clock, because this machine's clock may differ.
_APPLY: Final = """
SELECT applied, set_aside, accounts, revisions, deltas,
       extract(epoch FROM clock_timestamp() - oldest_arrived_at)::double precision AS oldest_seconds
FROM guardwire.{}
"""
#: By whether the database notifies the nodes.
_APPLY_BATCH: Final = {True: _APPLY.format("apply($1, $2)"), False: _APPLY.format("apply($1, $2, false)")}
_APPLY_SINGLY: Final = {
    True: _APPLY.format("apply_singly($1, $2)"),
    False: _APPLY.format("apply_singly($1, $2, false)"),
}
# The secret that authenticates messages of the relay, and whether another process listens.
_AUDIENCE: Final = """
SELECT c.delta_secret,
       EXISTS (SELECT FROM pg_stat_activity AS s WHERE s.datname = current_database() AND s.application_name = $1
               AND s.pid IS DISTINCT FROM $2) AS others_listen
FROM guardwire.configuration AS c
"""
# A server that may prepare transactions gets no notification of the platform's rows: guardwire.copy_row sends none.
_STATUS: Final = """
SELECT s.waiting, s.oldest_seconds, s.set_aside, s.unread_accounts, s.clocks_off, s.doubted_accounts,
       c.notify AND current_setting('max_prepared_transactions') = '0' AS notifies
FROM guardwire.inbox_status() AS s CROSS JOIN guardwire.configuration AS c
"""
# Ends the connection of a holder that no longer renews its lease, because its open transaction would hold the lease's
# row. A backend that still works on a batch is spared: statement_timeout ends the batch, and only then is the holder
# late. Otherwise appliers would end each other's batches for ever as soon as a batch takes longer than the lease.
_END_HOLDER: Final = """
SELECT pg_terminate_backend(s.pid) FROM guardwire.applier AS l
JOIN pg_stat_activity AS s ON s.pid = l.backend_pid AND s.application_name = $1
WHERE l.shard = 0 AND l.held_until < clock_timestamp() AND s.state <> 'active'
"""

#: The rows of one batch. A larger batch would delay its first row by more than it saves.
BATCH_ROWS: Final = 1000
_LEAST_BATCH_ROWS: Final = 10
#: After so many batches without a row, the applier takes notifications no more often than it polls: every login of the
#: database may send them.
_MOST_EMPTY_BATCHES: Final = 20
#: SQLSTATE classes of failures that no row causes: a lost race, no room, an object in use, a cancellation.
_PASSING_CLASSES: Final = ("40", "53", "55", "57", "58", "08")
_LEASE_IS_OVER: Final = "GW001"


@dataclass(frozen=True, kw_only=True)
class ApplierTiming:
    """How long the applier waits, in seconds.

    A holder that stops is replaced after at most ``lease`` + ``look`` seconds. ``poll_busy`` and ``poll_idle`` apply
    when NOTIFY does not wake the applier: the pause grows from the first to the second while no row comes.
    """

    lease: float = 1.9
    renew: float = 0.9
    look: float = 1.0
    poll_busy: float = 0.005
    poll_idle: float = 0.05
    status: float = 5.0
    connect: float = 2.0
    statement: float = 5.0
    retry: float = 0.25


class Applier:
    """Competes for the lease, and applies the inbox while it holds the lease.

    ``on_changes`` publishes the changes of a batch. ``is_woken`` returns whether notifications arrive; the listener
    calls `wake` for each. ``relay`` is None where the database notifies the nodes; with it ``listener_pid`` returns the
    backend of this process's own listener.
    """

    def __init__(
        self,
        *,
        database_url: str,
        name: str,
        on_changes: Callable[[Changes], None],
        is_woken: Callable[[], bool],
        relay: Publisher | None = None,
        listener_pid: Callable[[], int | None] = lambda: None,
        timing: ApplierTiming | None = None,
        trouble: Trouble | None = None,
    ) -> None:
        self._database_url = database_url
        self._name = name
        self._on_changes = on_changes
        self._is_woken = is_woken
        self._relay = relay
        self._listener_pid = listener_pid
        self._others_listen = True
        self._timing = timing or ApplierTiming()
        self._trouble = trouble or Trouble()
        self._wakened = asyncio.Event()
        self._rows_notify = False
        self._batch_rows = BATCH_ROWS
        self._empty_batches = 0
        self._backlog = _Backlog()
        self._renewed_at = self._status_at = float("-inf")
        #: Term of the lease that this process holds; None while another one does.
        self.term: int | None = None
        #: Process id of the connection's backend, whose notifications repeat the changes that were published here.
        self.backend_pid: int | None = None

    def wake(self) -> None:
        """Note that rows may wait in the inbox."""
        self._wakened.set()

    async def run(self) -> None:
        """Compete and apply for ever, and wait for a database that does not answer."""
        while True:
            try:
                await self._compete()
            except DATABASE_ERRORS as error:
                self._trouble.report(_PART, error)
            finally:
                self._lose()
            await asyncio.sleep(self._timing.retry)

    async def _compete(self) -> None:
        connection = await connect(
            self._database_url,
            timeout=self._timing.connect,
            command_timeout=self._timing.statement * 2,
            statement_cache_size=20,
            settings={
                "application_name": APPLICATION_NAME,
                "statement_timeout": f"{int(self._timing.statement * 1000)}",
                "jit": "off",
            },
        )
        measured_at = float("-inf")
        try:
            while True:
                term = await self._take_lease(connection)
                self._trouble.end(_PART)
                METRICS.applier_held.set(1)
                if term is not None:
                    await self._lead(connection, term)
                elif time.monotonic() - measured_at >= self._timing.status:
                    await self._measure(connection)
                    measured_at = time.monotonic()
                await asyncio.sleep(self._timing.look)
        except asyncio.CancelledError:
            await self._release(connection)
            raise
        finally:
            connection.terminate()

    async def _take_lease(self, connection: asyncpg.Connection[Any]) -> int | None:
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute(_END_HOLDER, APPLICATION_NAME)
        try:
            return await connection.fetchval(_TAKE, self._name, self._timing.lease)  # type: ignore[no-any-return]
        except asyncpg.LockNotAvailableError:
            return None

    async def _lead(self, connection: asyncpg.Connection[Any], term: int) -> None:
        """Apply batches until the lease is lost."""
        self.term, self.backend_pid = term, connection.get_server_pid()
        METRICS.applier_term.set(term)
        log.info("this process is the applier, term %d", term)
        if self._relay is not None:
            self._relay.begin()
            await self._look_who_listens(connection, self._relay)
        self._renewed_at, self._status_at, pause = time.monotonic(), float("-inf"), self._timing.poll_busy
        while await self._keep_lease(connection, term):
            self._wakened.clear()
            try:
                applied = await self._apply(connection, term)
            except asyncpg.PostgresError as error:
                if error.sqlstate == _LEASE_IS_OVER:
                    break
                raise
            if self._relay is not None and self._is_woken():
                # Nodes hear of what others than the applier change only while notifications arrive here.
                self._relay.publish_canary(term)
            if applied:
                # More may wait after a batch of any size: accounts share a batch, and shares are rounded down.
                pause, self._empty_batches = self._timing.poll_busy, 0
                continue
            self._backlog.end()
            pause = min(pause * 1.5, self._timing.poll_idle)
            await self._pause(self._timing.renew if self._rows_notify and self._is_woken() else pause)
        log.warning("another process is the applier now")
        self._lose()

    async def _keep_lease(self, connection: asyncpg.Connection[Any], term: int) -> bool:
        """Renew the lease and look around where that is due; False when another process has the lease."""
        now = time.monotonic()
        if now - self._renewed_at >= self._timing.renew:
            if not await connection.fetchval(_RENEW, term, self._timing.lease):
                return False
            self._renewed_at = now
            if self._relay is not None:
                await self._look_who_listens(connection, self._relay)
        if now - self._status_at >= self._timing.status:
            await self._measure(connection)
            self._status_at = now
        return True

    async def _look_who_listens(self, connection: asyncpg.Connection[Any], relay: Publisher) -> None:
        secret, self._others_listen = await connection.fetchrow(
            _AUDIENCE, LISTENER_NAME, self._listener_pid()
        )
        relay.take_secret(secret)

    async def _pause(self, seconds: float) -> None:
        """Wait after an empty batch, until somebody wakes the applier or the time is over."""
        self._empty_batches += 1
        if self._empty_batches > _MOST_EMPTY_BATCHES:
            await asyncio.sleep(self._timing.poll_busy)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wakened.wait()

    async def _apply(self, connection: asyncpg.Connection[Any], term: int) -> int:
        """Apply one batch; returns the number of rows that left the inbox, or 1 when the batch must be tried again."""
        try:
            row = await self._apply_rows(connection, term)
        except asyncpg.QueryCanceledError:
            self._batch_rows = max(self._batch_rows // 2, _LEAST_BATCH_ROWS)
            log.warning(
                "a batch took longer than %g s; the next has %d rows",
                self._timing.statement,
                self._batch_rows,
            )
            return 1
        except asyncpg.PostgresError as error:
            if (error.sqlstate or "").startswith("40"):
                return 1
            raise
        if row["applied"]:
            self._finish(row)
        return int(row["applied"])

    async def _apply_rows(self, connection: asyncpg.Connection[Any], term: int) -> Any:
        """Apply the rows of a batch together, or one by one where that fails by the fault of a row."""
        notifies = self._relay is None or self._others_listen or not self._relay.is_up
        try:
            return await connection.fetchrow(_APPLY_BATCH[notifies], term, self._batch_rows)
        except asyncpg.PostgresError as error:
            if error.sqlstate == _LEASE_IS_OVER or (error.sqlstate or "08").startswith(_PASSING_CLASSES):
                raise
            # The server's own words would quote values of rows.
            log.error("a batch failed, and its rows are applied one by one: %s", reason_of(error))
        return await connection.fetchrow(_APPLY_SINGLY[notifies], term, self._batch_rows)

    def _finish(self, row: Any) -> None:
        METRICS.batches.add()
        METRICS.applied_rows.add(row["applied"])
        if row["set_aside"]:
            METRICS.set_aside_rows.add(row["set_aside"])
            log.error(
                "%d rows could not be applied: they stand in guardwire.set_aside, and their accounts are stale until"
                " `guardwire rebuild --user …`",
                row["set_aside"],
            )
        self._backlog.add(row["applied"], row["oldest_seconds"])
        METRICS.inbox_delay.observe(max(0.0, row["oldest_seconds"]))
        if self._batch_rows < BATCH_ROWS:
            self._batch_rows = min(self._batch_rows * 2, BATCH_ROWS)
        accounts, revisions, deltas = row["accounts"] or (), row["revisions"] or (), row["deltas"] or ()
        changes = Changes(
            [delta for delta in deltas if delta is not None],
            [
                (account, revision)
                for account, revision, delta in zip(accounts, revisions, deltas, strict=True)
                if delta is None
            ],
        )
        if self._relay is not None:
            self._relay.publish(changes)
        self._on_changes(changes)

    async def _measure(self, connection: asyncpg.Connection[Any]) -> None:
        status = await connection.fetchrow(_STATUS)
        METRICS.inbox_rows.set(status["waiting"])
        METRICS.inbox_oldest.set(status["oldest_seconds"])
        METRICS.set_aside_now.set(status["set_aside"])
        METRICS.unread_accounts.set(status["unread_accounts"])
        METRICS.clocks_off.set(status["clocks_off"])
        METRICS.doubted_accounts.set(status["doubted_accounts"])
        self._rows_notify = status["notifies"]

    async def _release(self, connection: asyncpg.Connection[Any]) -> None:
        """Release the lease, so that a successor begins at once. When this fails, the successor waits for the lease to
        end.
        """
        if self.term is not None and not connection.is_closed():
            with contextlib.suppress(*DATABASE_ERRORS):
                async with asyncio.timeout(self._timing.connect / 4):
                    await connection.execute(_RELEASE, self.term)

    def _lose(self) -> None:
        self.term = self.backend_pid = None
        if self._relay is not None:
            self._relay.end()
        METRICS.applier_term.set(0)
        METRICS.applier_held.set(0)


class _Backlog:
    """Rows that waited for a long time because no node ran. They are reported once, when all are applied."""

    #: Rows that waited for less time are no backlog.
    LEAST_SECONDS: Final = 60.0

    def __init__(self) -> None:
        self._rows = 0
        self._oldest_seconds = 0.0

    def add(self, rows: int, oldest_seconds: float) -> None:
        if oldest_seconds > self.LEAST_SECONDS or self._rows:
            self._rows += rows
            self._oldest_seconds = max(self._oldest_seconds, oldest_seconds)

    def end(self) -> None:
        if self._rows:
            log.warning(
                "a backlog of %d rows was applied, the oldest after %.0f s; guards that were raised and cleared"
                " meanwhile stand in guardwire.breaches",
                self._rows,
                self._oldest_seconds,
            )
        self._rows, self._oldest_seconds = 0, 0.0

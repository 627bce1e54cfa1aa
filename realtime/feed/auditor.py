"""The background audit: compares one watched account after the other with a reduction of its raw log.

It reads a bounded number of rows on a borrowed connection, reduces them in a thread, and writes nothing. When an
account differs for certain, its clients get `stale` until an audit finds it equal again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from guardwire.patch import diff
from queries.live_query import LiveQueries
from realtime.audit.capture import check_triggers
from realtime.audit.sources import Sources
from realtime.audit.verdict import Evidence, Verdict, read_evidence
from realtime.feed.connection import DATABASE_ERRORS, KeptConnection
from realtime.feed.self_test import SURROUNDINGS
from realtime.feed.trouble import Trouble
from realtime.feed.watched import WatchedAccounts
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

#: Limits for one statement of an audit, and for all of them, because requests wait for this connection.
_STATEMENT_SECONDS: Final = 1.0
_PART: Final = "an audit"
_READ_SECONDS: Final = 2.5
#: Triggers are checked with every so many audits, because a person removes them, and traffic does not.
_TRIGGERS_EVERY: Final = 6
#: Rates are read as a whole. With more rates than about this number, profits that need one are not judged.
_MOST_RATES: Final = 20_000


#: Newest rows of each table that one audit reads, so that its cost does not grow with history.
AUDIT_ROWS: Final = 1_000


class Auditor:
    """Audits one account every ``interval_seconds``, with at most ``most_rows`` rows of each table."""

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        hub: WatchedAccounts,
        live_queries: LiveQueries,
        interval_seconds: float,
        most_rows: int = AUDIT_ROWS,
        trouble: Trouble | None = None,
    ) -> None:
        self._engine = engine
        self._hub = hub
        self._live_queries = live_queries
        self._interval_seconds = interval_seconds
        self._most_rows = most_rows
        self._trouble = trouble or Trouble()
        self._sources: Sources | None = None
        self._audited_at: dict[UUID, float] = {}
        #: Accounts that differ, each with the paths that were reported.
        self._disputed: dict[UUID, frozenset[str]] = {}
        self._disputed_turn = False
        self._turn = 0
        self._complaints: set[str] = set()
        #: The account that is being audited, as the live queries gave it, and the channels in which the snapshot that
        #: is shown at that revision differs.
        self._revision = -1
        self._drifted: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Audit for ever, and wait for a database that does not answer."""
        while True:
            await asyncio.sleep(self._interval_seconds)
            user_id = self._next()
            if user_id is not None:
                await self._audit(user_id)

    def _next(self) -> UUID | None:
        """The account that was not audited for the longest time; in every other turn one that differed."""
        watched = {user_id for user_id, revision in self._hub.watched() if revision >= 0}
        self._audited_at = {each: at for each, at in self._audited_at.items() if each in watched}
        self._disputed = {each: paths for each, paths in self._disputed.items() if each in watched}
        METRICS.disputed_accounts.set(len(self._disputed))
        self._disputed_turn = not self._disputed_turn
        among = self._disputed.keys() if self._disputed and self._disputed_turn else watched
        return min(among, key=lambda each: self._audited_at.get(each, float("-inf")), default=None)

    async def _audit(self, user_id: UUID) -> None:
        self._audited_at[user_id] = time.monotonic()
        try:
            evidence = await self._read(user_id)
            verdict = await asyncio.to_thread(evidence.judge)
        except (TimeoutError, asyncpg.QueryCanceledError):
            METRICS.audits.add(1, "too_long")
        except DATABASE_ERRORS as error:
            self._sources = None
            METRICS.audits.add(1, "failed")
            self._trouble.report(_PART, error)
        except Exception as error:
            # The message may repeat values of the account.
            METRICS.audits.add(1, "failed")
            log.error("an audit failed: %s", type(error).__name__, extra={"user": str(user_id)})
        else:
            self._trouble.end(_PART)
            self._report(verdict)

    async def _read(self, user_id: UUID) -> Evidence:
        borrowed = KeptConnection(self._engine)
        try:
            async with borrowed.driver() as driver, asyncio.timeout(_READ_SECONDS):
                if self._turn % _TRIGGERS_EVERY == 0:
                    surroundings = {row["sentence"] for row in await driver.fetch(SURROUNDINGS)}
                    self._complain(surroundings | {str(each) for each in await check_triggers(driver)})
                self._turn += 1
                if self._sources is None:
                    self._sources = await Sources.of(driver)
                return await read_evidence(
                    driver,
                    self._sources,
                    user_id,
                    shown=self._shown,
                    most_rows=self._most_rows,
                    most_rates=_MOST_RATES,
                    timeout_seconds=_STATEMENT_SECONDS,
                )
        finally:
            await borrowed.close()

    async def _shown(self, driver: Any, user_id: UUID) -> Mapping[str, Any]:
        (found,) = await self._live_queries.evaluate(driver, [user_id])
        self._revision = found.revision
        shown = self._hub.snapshot_of(user_id)
        same = shown is not None and (shown.epoch, shown.revision) == (found.epoch, found.revision)
        # Equal revisions mean equal states, for states from a read and from deltas.
        drifted = diff(shown.state, found.state) if shown is not None and same else {}
        self._drifted = frozenset(f"{channel} as it is shown" for channel in drifted)
        return found.state

    def _complain(self, complaints: set[str]) -> None:
        for complaint in sorted(complaints - self._complaints):
            log.error("%s", complaint)
        self._complaints = complaints

    def _report(self, verdict: Verdict) -> None:
        paths = self._drifted.union(each.path for each in verdict.differences)
        known = self._disputed.get(verdict.user_id)
        METRICS.audits.add(1, "different" if paths else "too_long" if verdict.partial else "equal")
        if paths:
            self._disputed[verdict.user_id] = paths
            if paths != known:
                log.error(
                    "an account differs from its raw log, and its clients get `stale`: %s;"
                    " `guardwire verify --user %s` shows the differences, `guardwire rebuild` corrects them",
                    ", ".join(sorted(paths)),
                    verdict.user_id,
                    extra={"user": str(verdict.user_id)},
                )
        elif known is not None:
            if dict(self._hub.watched()).get(verdict.user_id) != self._revision:
                # The audited state is right and not delivered yet, and the delivered one was wrong.
                return
            del self._disputed[verdict.user_id]
            log.warning("an account is what its log says again", extra={"user": str(verdict.user_id)})
        METRICS.disputed_accounts.set(len(self._disputed))
        if paths or known is not None:
            self._hub.mark_disputed(verdict.user_id, disputed=bool(paths))

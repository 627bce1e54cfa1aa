"""The checks of a node before it takes its first client: whether it would serve right state, and notice its changes.

When going on would show wrong state as fresh, the node is not ready, names the reason, and checks again: it waits for
`guardwire migrate`. Every other finding is a warning in the log. Each check is also a gauge,
`guardwire_self_test_failed`.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from queries.migrations.revisions import REVISIONS, revision_of
from queries.search_path import unsafe_path
from realtime.audit.capture import check_triggers
from realtime.feed.connection import DATABASE_ERRORS, KeptConnection
from realtime.feed.rights import lacking_rights, missing_parts
from realtime.feed.trouble import REMIND_SECONDS, Trouble
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

#: This clock judges tokens, and the database's clock gives the times of rows.
MOST_SKEW_SECONDS: Final = 2.0
#: Each client is an open file, and so is each connection to PostgreSQL and Redis.
LEAST_OPEN_FILES: Final = 4096
_HEARING_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 2.0
_STARTING: Final = "starting"
_PART: Final = "the self-test"
#: Defects of the database around schema guardwire, one sentence in each row.
SURROUNDINGS: Final = "SELECT sentence FROM guardwire.check_surroundings() AS sentence"
#: Whether the login is or may become a superuser, and whether it is or may become an owner.
_LOGIN: Final = """
SELECT (SELECT bool_or(role.rolsuper) FROM pg_roles AS role WHERE pg_has_role(role.oid, 'MEMBER')),
       (SELECT bool_or(pg_has_role(relation.relowner, 'MEMBER')) FROM pg_class AS relation
        WHERE relation.relnamespace = 'guardwire'::regnamespace
           OR relation.oid = 'public.reconciliation_logs'::regclass)
"""


class SelfTest:
    """Runs once at each start; ``redis`` is None when the node uses none.

    ``hearing`` returns whether the listener receives its own canary, ``listens_directly`` whether it can expect to.
    """

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        redis: Redis | None,
        hearing: Callable[[], bool],
        listens_directly: bool,
        trouble: Trouble | None = None,
        remind_seconds: float = REMIND_SECONDS,
    ) -> None:
        self._engine = engine
        self._redis = redis
        self._hearing = hearing
        self._listens_directly = listens_directly
        self._trouble = trouble or Trouble()
        self._remind_seconds = remind_seconds
        self._reported_at: dict[str, float] = {}
        self._warned: set[str] = set()
        #: Why this node must not serve yet; None when it may.
        self.refusal: str | None = _STARTING

    async def run(self) -> None:
        """Check until the database can be served from, and then wait for ever."""
        while (found := await self._refusal()) is not None:
            self.refusal = f"{_STARTING}: {found}"
            await asyncio.sleep(_AGAIN_SECONDS)
        self._trouble.is_starting = False
        await self._look_around()
        self.refusal = None
        # The supervisor would start a task again that ends.
        await asyncio.Event().wait()

    async def _refusal(self) -> str | None:
        """The reason why the node must not or cannot serve; None when it can."""
        borrowed = KeptConnection(self._engine)
        try:
            async with borrowed.driver() as driver:
                found = await lacking_rights(driver)
                _gauge("rights", failed=found is not None)
                if found is None:
                    found = await check_revision(driver) or await self._missing(driver)
                if found is None:
                    complaints = await check_triggers(driver)
                    _gauge("triggers", failed=bool(complaints))
                    found = "; ".join(map(str, complaints)) or None
                if found is None:
                    problems = [row["sentence"] for row in await driver.fetch(SURROUNDINGS)]
                    _gauge("surroundings", failed=bool(problems))
                    found = "; ".join(problems) or None
                if found is None:
                    self._warn("clock", await check_clock(driver))
                    self._warn("login", await check_login(driver))
                    self._warn("search_path", await check_search_path(driver))
        except DATABASE_ERRORS as error:
            return self._trouble.report(_PART, error)
        finally:
            await borrowed.close()
        self._trouble.end(_PART)
        self._report(found)
        return found

    async def _missing(self, driver: Any) -> str | None:
        found = await missing_parts(driver)
        _gauge("tables", failed=found is not None)
        return found

    def _report(self, found: str | None) -> None:
        """Log a refusal once, and then once a minute."""
        now = time.monotonic()
        if found is None or now - self._reported_at.get(found, float("-inf")) < self._remind_seconds:
            return
        if found in self._reported_at:
            log.warning("still not ready: %s", found)
        else:
            self._warned.add(found)
            log.critical("not ready, and looking again every %g s: %s", _AGAIN_SECONDS, found)
        self._reported_at[found] = now

    async def _look_around(self) -> None:
        self._warn("files", check_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
        self._warn("redis", None if self._redis is None else await check_redis(self._redis))
        self._warn("notify", await self._check_hearing())
        log.info("self-test done, %s", "all well" if not self._warned else f"{len(self._warned)} warnings")

    async def _check_hearing(self) -> str | None:
        deadline = time.monotonic() + _HEARING_SECONDS
        while not self._hearing():
            if time.monotonic() > deadline:
                mend = (
                    "check that the server lets this login LISTEN"
                    if self._listens_directly
                    else "LISTEN_DATABASE_URL must name the server itself, not a pooler"
                )
                return (
                    f"NOTIFY is not heard, so changes are found by sweeps alone, five times a second; {mend}"
                )
            await asyncio.sleep(0.05)
        return None

    def _warn(self, check: str, warning: str | None) -> None:
        _gauge(check, failed=warning is not None)
        if warning is not None and check not in self._warned:
            self._warned.add(check)
            log.warning("%s", warning)


async def check_revision(driver: Any, known: Iterable[str] = REVISIONS) -> str | None:
    """Why the schema is not the one that this release reads; None when it is, or when it is a newer one."""
    *older, ours = known
    found = await revision_of(driver)
    _gauge("schema", failed=found != ours)
    if found is None:
        return "the database has not been migrated; `guardwire migrate` does that"
    if found in older:
        return f"the database's schema is {found}, this release reads {ours}; `guardwire migrate` upgrades it"
    if found != ours:
        # A newer release migrated the database, which it may do while older nodes still serve.
        log.warning(
            "the database's schema is %s, newer than %s, which this release reads; upgrade it", found, ours
        )
    return None


async def check_login(driver: Any) -> str | None:
    """Why this node's login may do more than the node needs, which an attacker who takes the node over may do too; None
    when it may not.
    """
    is_superuser, is_owner = await driver.fetchrow(_LOGIN)
    if is_superuser:
        found = "a superuser"
    elif is_owner:
        found = "the owner of tables that it only has to read"
    else:
        return None
    return (
        f"this node's login is {found}: whoever takes the node over may change every row and every table;"
        " give DATABASE_URL a login that is a member of guardwire_server (`guardwire migrate --roles`)"
    )


async def check_search_path(driver: Any) -> str | None:
    """Why functions of somebody else may run with the rights of this node's login; None when none may."""
    found = await unsafe_path(driver)
    return None if found is None else f"DATABASE_URL: {found}"


async def check_clock(driver: Any) -> str | None:
    """The problem with this machine's clock, measured against the database's; None without one."""
    before = datetime.now(UTC)
    theirs = await driver.fetchval("SELECT clock_timestamp()")
    after = datetime.now(UTC)
    skew_seconds: float = (theirs - (before + (after - before) / 2)).total_seconds()
    METRICS.clock_skew.set(skew_seconds)
    if abs(skew_seconds) <= MOST_SKEW_SECONDS:
        return None
    where = "ahead of" if skew_seconds > 0 else "behind"
    return (
        f"the database's clock is {abs(skew_seconds):.1f} s {where} this machine's:"
        " tokens expire, and countdowns end, by so much at the wrong time; synchronise both (NTP)"
    )


def check_files(limit: int) -> str | None:
    """The problem with the limit of open files; None without one."""
    if limit == resource.RLIM_INFINITY or limit >= LEAST_OPEN_FILES:
        return None
    return (
        f"this process may open {limit} files, and each client is one: beyond that nobody can connect;"
        f" raise it to {LEAST_OPEN_FILES} or more (LimitNOFILE=, ulimit -n)"
    )


async def check_redis(redis: Redis) -> str | None:
    """The problem with the settings of Redis; None without one."""
    try:
        memory = await redis.info("memory")
    except (RedisError, OSError, TimeoutError) as error:
        return (
            f"Redis does not answer ({type(error).__name__}): pushes go on without it, but no ticket is given"
            " out and nothing is remembered across restarts; check REDIS_URL"
        )
    if int(memory.get("maxmemory", 0)) and memory.get("maxmemory_policy") == "noeviction":
        return (
            "Redis has a maxmemory and the policy noeviction: once full it remembers nothing more;"
            " set maxmemory-policy to volatile-lru or allkeys-lru"
        )
    return None


def _gauge(check: str, *, failed: bool) -> None:
    METRICS.self_test_failed.set(float(failed), check)

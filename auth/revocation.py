"""Tokens and users whose access ended early, known to every node within seconds.

The rows in PostgreSQL are the truth, and each node reads the new ones every few seconds. One key in Redis holds a
mark, and each revocation replaces the mark, so that nodes read the rows at once. A Redis that is lost, flushed or
wrong delays a revocation by seconds and never loses one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.claims import MAX_LEEWAY_SECONDS, is_token_id
from auth.identity import Identity
from auth.revoked_rows import CoveredTokens, Revocation, RevokedRows
from realtime.errors import ConfigurationError, UnavailableError
from realtime.metrics import METRICS

MARK_KEY: Final = "guardwire:revocations"
#: A node writes this key to find out whether Redis accepts writes.
_ALIVE_KEY: Final = "guardwire:alive"
_ALIVE_SECONDS: Final = 60
#: Revocations of single tokens that can be in force; they take about 30 MB. Users can always be revoked.
CAPACITY: Final = 100_000
MAX_REASON_CHARACTERS: Final = 500
MAX_LOCK: Final = timedelta(days=3660)

_REDIS_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


class Revocations:
    """The revoked users and tokens, in memory; `run` keeps them up to date, `revoke` adds one for all nodes.

    The revocation of a user covers the tokens issued until then. A user may also be locked out until a later
    time, which covers the tokens issued until that time. The revocation of a token covers that token.

    The issuer's clock gives the time of issue (``iat``), and the database's clock the time of a revocation. The
    issuer's clock may be ahead by the leeway of tokens, so a revocation also covers tokens with an ``iat`` up to
    the leeway later.
    """

    def __init__(
        self,
        *,
        engine: AsyncEngine,
        redis: Redis | None,
        standby: AsyncEngine | None = None,
        max_token_lifetime_seconds: float = 86_400.0,
        leeway_seconds: float = 5.0,
        read_seconds: float = 3.0,
        poll_seconds: float = 0.5,
        full_read_seconds: float = 60.0,
        capacity: int = CAPACITY,
    ) -> None:
        """`run` reads new rows every ``read_seconds``, all live rows every ``full_read_seconds``, and the mark
        in Redis every ``poll_seconds``. ``capacity`` revocations of single tokens can be in force.

        ``max_token_lifetime_seconds`` and ``leeway_seconds`` are the verifier's. The first says how long a
        revocation is kept, the second how far ahead an issuer's clock may be. ``standby`` is read when ``engine`` does
        not answer the first time; later the known revocations stay in force, and a standby may know fewer of them.
        """
        self._rows = RevokedRows(engine=engine, standby=standby)
        self._redis = redis
        self._keep_seconds = max_token_lifetime_seconds + 2 * MAX_LEEWAY_SECONDS
        self._leeway_seconds = leeway_seconds
        self._read_seconds = read_seconds
        self._poll_seconds = poll_seconds
        self._full_read_seconds = full_read_seconds
        self._capacity = capacity
        self._users: dict[UUID, float] = {}
        self._tokens: set[str] = set()
        self._changes = 0
        self._horizon = 0
        self._reading = asyncio.Lock()
        self._read_at: float | None = None
        self._full_read_at = 0.0
        self._mark: object = None

    @property
    def age_seconds(self) -> float | None:
        """Seconds since the rows were last read; None before the first time."""
        return None if self._read_at is None else time.monotonic() - self._read_at

    def changes(self) -> int:
        """A number that grows whenever something more is revoked."""
        return self._changes

    def is_revoked(self, identity: Identity) -> bool:
        """Whether ``identity`` may no longer be served; answered from memory."""
        covers_until = self._users.get(identity.user_id)
        if covers_until is not None and identity.issued_at <= covers_until + self._leeway_seconds:
            return True
        return identity.token_id in self._tokens

    async def revoke(
        self,
        *,
        user_id: UUID | None = None,
        token_id: str | None = None,
        locked_until: datetime | None = None,
        reason: str = "",
    ) -> Revocation:
        """Revoke all tokens that ``user_id`` has so far, or the one named ``token_id``; committed on return.

        ``locked_until`` (with a zone) also covers the user's tokens that are issued until that time. Raises
        ConfigurationError unless exactly one of user and token is given and every argument is well-formed, and
        UnavailableError when PostgreSQL does not answer or too many single tokens are revoked already.
        """
        _check_subject(user_id, token_id)
        if locked_until is not None:
            _check_lock(user_id, locked_until)
        printable = "".join(character for character in reason if character.isprintable())
        added = await self._rows.add(
            user_id=user_id,
            token_id=token_id,
            locked_until=locked_until,
            keep_seconds=self._keep_seconds,
            reason=printable[:MAX_REASON_CHARACTERS],
            capacity=self._capacity,
        )
        if added is None:
            raise UnavailableError(f"{self._capacity} tokens are revoked already: revoke their user instead.")
        await self._announce()
        return added

    async def list_in_force(self) -> Sequence[Revocation]:
        """The revocations in force, the newest first, at most `CAPACITY`; raises UnavailableError."""
        return await self._rows.list_live(most=self._capacity)

    async def undo(self, *, user_id: UUID | None = None, token_id: str | None = None) -> int:
        """Undo every revocation in force of ``user_id``, or of ``token_id``; committed on return.

        Returns how many there were, and raises what `revoke` raises.
        """
        _check_subject(user_id, token_id)
        undone = await self._rows.undo(user_id=user_id, token_id=token_id)
        if undone:
            await self._announce()
        return undone

    async def _announce(self) -> None:
        await self._change_mark()
        with contextlib.suppress(UnavailableError):  # it is committed, and `run` reads it in a moment
            await self.read()

    async def read(self) -> None:
        """Read the rows since the last read; raises UnavailableError. A node calls it before it serves."""
        async with self._reading:
            began = time.monotonic()
            whole = self._horizon == 0 or began - self._full_read_at >= self._full_read_seconds
            since = 0 if whole else self._horizon
            rows, horizon = await self._rows.read(since=since, may_lag=self._read_at is None)
            # Transaction ids of a restored copy of the database may be lower. After an undo, only all rows
            # together show which tokens are still covered.
            if horizon < self._horizon or any(row.is_undone for row in rows):
                rows, horizon = await self._rows.read(since=0)
                whole = True
            self._read_at, self._horizon = began, horizon
            self._learn(rows, whole=whole)
            if whole:
                self._full_read_at = began

    async def run(self) -> None:
        """Read for ever: when the mark in Redis changes, and every ``read_seconds`` in any case."""
        failing = False
        while True:
            try:
                whole_before = self._full_read_at
                await self.read()
                if self._full_read_at != whole_before:
                    await self._rows.prune()
                failing = False
            except UnavailableError as error:
                if not failing:
                    logger.warning("Revocations cannot be read: %s The known ones stay in force.", error)
                failing = True
            await self._wait()

    async def _wait(self) -> None:
        deadline = time.monotonic() + self._read_seconds
        while time.monotonic() < deadline:
            await asyncio.sleep(min(self._poll_seconds, self._read_seconds))
            changed = await self._has_new_mark()
            _end_if_cancelled()
            if changed:
                return

    def _learn(self, rows: Iterable[CoveredTokens], *, whole: bool) -> None:
        """Add ``rows`` to the known revocations, or replace these when ``rows`` is the ``whole`` table."""
        users: dict[UUID, float] = {} if whole else self._users
        tokens: set[str] = set() if whole else self._tokens
        for row in rows:
            if row.is_undone:
                continue
            if row.user_id is not None:
                until = max(row.covers_until, users.get(row.user_id, -1.0))
                is_news = until > self._users.get(row.user_id, -1.0)
                users[row.user_id] = until
            elif row.token_id is not None:
                is_news = row.token_id not in self._tokens
                tokens.add(row.token_id)
            else:
                continue
            # The horizon stands still while an old transaction is open, so the same rows can come again.
            self._changes += is_news
        self._users, self._tokens = users, tokens

    async def _change_mark(self) -> None:
        if self._redis is None:
            return
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                # A counter could repeat its values after Redis was flushed.
                await self._redis.set(MARK_KEY, secrets.token_hex(16))
        except (RedisError, OSError, TimeoutError) as error:
            name = type(error).__name__
            logger.warning(
                "Redis did not accept a revocation (%s): nodes read it from PostgreSQL in seconds.", name
            )

    async def _has_new_mark(self) -> bool:
        if self._redis is None:
            return False
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                pipeline = self._redis.pipeline(transaction=False)
                # A replica, or a server without free memory, answers reads and refuses writes.
                pipeline.set(_ALIVE_KEY, b"", ex=_ALIVE_SECONDS)
                pipeline.get(MARK_KEY)
                written, mark = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError):
            METRICS.redis_up.set(0)
            return False
        METRICS.redis_up.set(0 if isinstance(written, Exception) else 1)
        if isinstance(mark, Exception):
            return False
        changed, self._mark = bool(mark != self._mark), mark
        return changed


def _check_subject(user_id: UUID | None, token_id: str | None) -> None:
    if (user_id is None) == (token_id is None):
        raise ConfigurationError(["Name either a user or a token to revoke."])
    if token_id is not None and not is_token_id(token_id):
        raise ConfigurationError(["A token's id is 1 to 256 printable ASCII characters."])


def _check_lock(user_id: UUID | None, locked_until: datetime) -> None:
    if user_id is None:
        raise ConfigurationError(["Only a user can be locked out until a time: a token ends by itself."])
    left = locked_until - datetime.now(UTC)
    if not timedelta(0) < left <= MAX_LOCK:
        raise ConfigurationError(
            [f"A user can be locked out until a time to come, at most {MAX_LOCK.days} days from now."]
        )


def _end_if_cancelled() -> None:
    # redis-py sends with asyncio.wait_for, and on Python 3.11 wait_for can return its result in place of a
    # cancellation that arrives at the same time. The task would then run on, and the shutdown wait for ever.
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError

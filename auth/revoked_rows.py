"""The statements on ``guardwire.revocations`` (queries/migrations/tables/0001c_revocations.sql)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from realtime.database import DATABASE_ERRORS
from realtime.errors import UnavailableError

#: Rows written by transactions that ``since`` did not see yet, and the horizon for the next call.
#: Every transaction that is invisible to this statement has an id of at least the horizon.
_READ: Final = text("""
SELECT CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS horizon,
       revocation.user_id,
       revocation.token_id,
       CAST(extract(epoch FROM greatest(revocation.revoked_at, revocation.locked_until)) AS double precision)
           AS covers_until,
       revocation.undone_at IS NOT NULL AS is_undone
FROM (VALUES (0)) AS one_row_at_least
LEFT JOIN guardwire.revocations AS revocation
       ON revocation.transaction_id >= CAST(CAST(:since AS text) AS xid8) AND revocation.expires_at > now()
""")

#: A new revocation, unless it names a token and ``capacity`` revocations are live already.
_ADD: Final = text("""
INSERT INTO guardwire.revocations (user_id, token_id, revoked_at, locked_until, expires_at, reason)
SELECT CAST(:user_id AS uuid), CAST(:token_id AS text), at, until,
       greatest(at, until) + make_interval(secs => :keep_seconds), CAST(:reason AS text)
FROM (SELECT clock_timestamp() AS at, CAST(:locked_until AS timestamptz) AS until) AS times
WHERE CAST(:token_id AS text) IS NULL
   OR (SELECT count(*) FROM guardwire.revocations WHERE expires_at > now() AND undone_at IS NULL) < :capacity
RETURNING revocation_id, user_id, token_id, revoked_at, locked_until, expires_at, reason
""")

#: The live rows for people, the newest first.
_LIST: Final = text("""
SELECT revocation_id, user_id, token_id, revoked_at, locked_until, expires_at, reason
FROM guardwire.revocations
WHERE expires_at > now() AND undone_at IS NULL
ORDER BY revoked_at DESC, revocation_id DESC
LIMIT :most
""")

#: Marks the rows of one user or one token as undone; a new transaction_id makes nodes read these rows again.
_UNDO: Final = text("""
UPDATE guardwire.revocations
SET undone_at = clock_timestamp(), transaction_id = pg_current_xact_id()
WHERE (user_id = CAST(:user_id AS uuid) OR token_id = CAST(:token_id AS text))
  AND expires_at > now() AND undone_at IS NULL
""")

#: Deletes a bounded number of rows that ended a week ago: all tokens that they covered have expired.
_PRUNE: Final = text("""
DELETE FROM guardwire.revocations WHERE revocation_id IN (
    SELECT revocation_id FROM guardwire.revocations
    WHERE expires_at < now() - interval '7 days' ORDER BY expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED)
""")


@dataclass(frozen=True, slots=True)
class CoveredTokens:
    """The tokens that one row covers: those of a user issued until ``covers_until`` (unix seconds), or one.

    A row with ``is_undone`` covers nothing any more.
    """

    user_id: UUID | None
    token_id: str | None
    covers_until: float
    is_undone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """One revocation, for display; either ``user_id`` or ``token_id`` is None.

    ``locked_until`` is None unless a user's later tokens are covered too. After ``expires_at`` all tokens
    that the revocation covers have expired by themselves.
    """

    revocation_id: int
    user_id: UUID | None
    token_id: str | None
    revoked_at: datetime
    locked_until: datetime | None
    expires_at: datetime
    reason: str


class RevokedRows:
    """The table of revocations; its methods raise UnavailableError when PostgreSQL does not answer."""

    def __init__(
        self, *, engine: AsyncEngine, standby: AsyncEngine | None = None, timeout_seconds: float = 5.0
    ) -> None:
        self._engine = _autocommitting(engine)
        self._standby = None if standby is None else _autocommitting(standby)
        self._timeout_seconds = timeout_seconds

    async def read(self, *, since: int, may_lag: bool = False) -> tuple[list[CoveredTokens], int]:
        """The live rows that horizon ``since`` did not see yet (0: all rows), and the next horizon.

        With ``may_lag`` those of the standby, where there is one and the primary does not answer.
        """
        try:
            rows = await self._read(self._engine, since)
        except UnavailableError:
            if self._standby is None or not may_lag:
                raise
            rows = await self._read(self._standby, since)
        found = [
            CoveredTokens(row.user_id, row.token_id, row.covers_until, row.is_undone)
            for row in rows
            if row.covers_until is not None
        ]
        return found, int(rows[0].horizon)

    async def _read(self, engine: AsyncEngine, since: int) -> Sequence[Any]:
        async with self._connection(engine) as connection:
            return (await connection.execute(_READ, {"since": str(since)})).all()

    async def add(
        self,
        *,
        user_id: UUID | None,
        token_id: str | None,
        locked_until: datetime | None,
        keep_seconds: float,
        reason: str,
        capacity: int,
    ) -> Revocation | None:
        """Write one revocation, committed on return; None when ``capacity`` are live already."""
        values = {
            "user_id": user_id,
            "token_id": token_id,
            "locked_until": locked_until,
            "keep_seconds": keep_seconds,
            "reason": reason,
            "capacity": capacity,
        }
        async with self._connection() as connection:
            row = (await connection.execute(_ADD, values)).mappings().one_or_none()
        return None if row is None else Revocation(**row)

    async def list_live(self, *, most: int) -> Sequence[Revocation]:
        """The live revocations, the newest first and at most ``most``."""
        async with self._connection() as connection:
            rows = (await connection.execute(_LIST, {"most": most})).mappings().all()
        return [Revocation(**row) for row in rows]

    async def undo(self, *, user_id: UUID | None, token_id: str | None) -> int:
        """Undo the live revocations of this user or this token, committed on return; returns their number."""
        async with self._connection() as connection:
            return (await connection.execute(_UNDO, {"user_id": user_id, "token_id": token_id})).rowcount

    async def prune(self) -> None:
        """Delete some rows that ended long ago."""
        async with self._connection() as connection:
            await connection.execute(_PRUNE)

    @asynccontextmanager
    async def _connection(self, engine: AsyncEngine | None = None) -> AsyncIterator[AsyncConnection]:
        # `from None`, because the driver's error repeats the values of the statement.
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                (engine or self._engine).connect() as connection,
            ):
                yield connection
        except DATABASE_ERRORS as error:
            raise UnavailableError(f"PostgreSQL did not answer ({type(error).__name__}).") from None


def _autocommitting(engine: AsyncEngine) -> AsyncEngine:
    # Each call is one statement.
    return engine.execution_options(isolation_level="AUTOCOMMIT")

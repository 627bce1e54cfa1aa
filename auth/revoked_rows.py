"""The statements on ``guardwire.revocations`` (queries/migrations/sql/revocations.sql)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from asyncpg.exceptions import InterfaceError, InternalClientError, PostgresError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from realtime.errors import UnavailableError

_OUTAGES: Final = (SQLAlchemyError, PostgresError, InterfaceError, InternalClientError, OSError, TimeoutError)

#: Rows written by transactions that ``since`` did not see yet, and the horizon for the next call.
#: Every transaction that is invisible to this statement has an id of at least the horizon.
_READ: Final = text("""
SELECT CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS horizon,
       revocation.user_id,
       revocation.token_id,
       CAST(extract(epoch FROM revocation.revoked_at) AS double precision) AS revoked_at,
       CAST(extract(epoch FROM revocation.expires_at) AS double precision) AS expires_at
FROM (VALUES (0)) AS one_row_at_least
LEFT JOIN guardwire.revocations AS revocation
       ON revocation.transaction_id >= CAST(CAST(:since AS text) AS xid8) AND revocation.expires_at > now()
""")

#: A new revocation, unless it names a token and the live ones are as many as a node remembers.
_ADD: Final = text("""
INSERT INTO guardwire.revocations (user_id, token_id, revoked_at, expires_at, reason)
SELECT CAST(:user_id AS uuid), CAST(:token_id AS text), clock_timestamp(),
       clock_timestamp() + make_interval(secs => :keep_seconds), CAST(:reason AS text)
WHERE CAST(:token_id AS text) IS NULL
   OR (SELECT count(*) FROM guardwire.revocations WHERE expires_at > now()) < :capacity
RETURNING revocation_id
""")

#: Rows whose end is a week past, a bounded number at a time: what they covered has expired by itself.
_PRUNE: Final = text("""
DELETE FROM guardwire.revocations WHERE revocation_id IN (
    SELECT revocation_id FROM guardwire.revocations
    WHERE expires_at < now() - interval '7 days' ORDER BY expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED)
""")


@dataclass(frozen=True, slots=True)
class Revocation:
    """One revocation, of a user's tokens issued until ``revoked_at`` or of one token; in unix seconds."""

    user_id: UUID | None
    token_id: str | None
    revoked_at: float
    expires_at: float


class RevokedRows:
    """The table of revocations; its methods raise UnavailableError when PostgreSQL fails them."""

    def __init__(self, *, engine: AsyncEngine, timeout_seconds: float = 5.0) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")  # each call is one statement
        self._timeout_seconds = timeout_seconds

    async def read(self, *, since: int) -> tuple[list[Revocation], int]:
        """Live rows not visible yet at horizon ``since`` (0 for all), and the horizon to ask from next."""
        async with self._connection() as connection:
            rows = (await connection.execute(_READ, {"since": str(since)})).all()
        found = [
            Revocation(row.user_id, row.token_id, row.revoked_at, row.expires_at)
            for row in rows
            if row.revoked_at is not None
        ]
        return found, int(rows[0].horizon)

    async def add(
        self, *, user_id: UUID | None, token_id: str | None, keep_seconds: float, reason: str, capacity: int
    ) -> bool:
        """Write one revocation, committed on return; False when ``capacity`` live ones are there already."""
        values = {
            "user_id": user_id,
            "token_id": token_id,
            "keep_seconds": keep_seconds,
            "reason": reason,
            "capacity": capacity,
        }
        async with self._connection() as connection:
            return (await connection.execute(_ADD, values)).one_or_none() is not None

    async def prune(self) -> None:
        """Delete some rows that ended long ago."""
        async with self._connection() as connection:
            await connection.execute(_PRUNE)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        # The cause stays out of the chain: a driver's error repeats the statement's values.
        try:
            async with asyncio.timeout(self._timeout_seconds), self._engine.connect() as connection:
                yield connection
        except _OUTAGES as error:
            raise UnavailableError(f"PostgreSQL did not carry it out ({type(error).__name__}).") from None

"""Finds one position, open or closed, by its own id or by the id of any row of the log about it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy import RowMapping, text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from queries.conversion import PROFIT, PROFIT_CURRENCY, RATES
from queries.live_query import wire_epoch
from queries.timestamps import iso
from realtime.errors import UnavailableError

log = logging.getLogger(__name__)

# The owner is part of both look-ups, so an id of another account takes the same steps as an id of nobody's.
STATEMENT: Final = f"""
SELECT p.user_id, p.ticket, p.position_id, p.is_open, p.matched, p.symbol, p.direction,
       p.volume::float8, p.entry_price::float8, p.current_price::float8, p.closed_price::float8,
       p.take_profit::float8, p.stop_loss::float8, p.entry_time, p.updated_at, p.contract_size_assumed,
       p.pnl_pct::float8, p.instrument, p.divergence_reason, p.unconfirmed_since,
       {PROFIT_CURRENCY} AS pnl_currency, ({PROFIT})::float8 AS pnl,
       account.revision, epoch.epoch AS database_epoch, statement_timestamp() AS as_of,
       (SELECT coalesce(bool_or(w.is_old), false)
        FROM guardwire.waiting_accounts(ARRAY[p.user_id], pg_current_snapshot()) AS w) AS is_behind
FROM guardwire.positions AS p
JOIN guardwire.accounts AS account ON account.user_id = p.user_id
CROSS JOIN guardwire.epoch AS epoch
{RATES}
WHERE p.user_id = :user_id
  AND p.ticket = coalesce(
      (SELECT own.ticket
       FROM guardwire.positions AS own
       WHERE own.position_id = :position_id AND own.user_id = :user_id),
      (SELECT guardwire.read_ticket(to_jsonb(log.mt5_position_id))
       FROM public.reconciliation_logs AS log
       WHERE log.id = :position_id
         AND guardwire.read_user(log.user_id::text) = :user_id))
"""  # noqa: S608 - put together from constants alone

#: A statement by primary key answers in a millisecond; after this long the connection is taken for dead.
_DEADLINE_SECONDS: Final = 3.0

_statement = text(STATEMENT)

_DATABASE_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    SQLAlchemyError,
)


class FoundPosition(NamedTuple):
    """A row of guardwire.positions at the account's revision; ``pnl`` is in ``pnl_currency``, times are
    ISO 8601. ``is_behind`` when rows of the account have waited to be applied for longer than a second.
    """

    user_id: UUID
    epoch: int
    revision: int
    as_of: str
    is_behind: bool
    ticket: int
    position_id: UUID
    is_open: bool
    matched: int
    symbol: str | None
    direction: Literal["buy", "sell"] | None
    volume: float | None
    entry_price: float | None
    current_price: float | None
    closed_price: float | None
    take_profit: float | None
    stop_loss: float | None
    entry_time: str
    updated_at: str
    contract_size_assumed: bool
    pnl: float | None
    pnl_pct: float | None
    pnl_currency: str
    #: The symbol of instruments that the position's symbol means; None when it is in none.
    instrument: str | None
    divergence_reason: str | None
    #: Time of the position's last row, where the platform no longer mentions it while it syncs others.
    unconfirmed_since: str | None


async def find_position(engine: AsyncEngine, *, user_id: UUID, position_id: UUID) -> FoundPosition | None:
    """The position of ``user_id`` that ``position_id`` names, or a log row of it; None when there is none.

    Raises UnavailableError when the database cannot answer now.
    """
    parameters = {"user_id": user_id, "position_id": position_id}
    try:
        # Past the deadline the pool throws the connection away, which is right for one that does not answer.
        async with asyncio.timeout(_DEADLINE_SECONDS), engine.connect() as connection:
            # One statement needs no transaction around it, and so no two more round trips.
            autocommitting = await connection.execution_options(isolation_level="AUTOCOMMIT")
            row = (await autocommitting.execute(_statement, parameters)).mappings().first()
    except ProgrammingError:
        # A table or a right is missing. No retry helps, so the error goes up to the log of errors.
        raise
    except _DATABASE_ERRORS as error:
        log.warning("a position cannot be read: %s", type(error).__name__)
        raise UnavailableError("The database cannot be reached now; try again in a moment.") from error
    return None if row is None else _found(row)


def _found(row: RowMapping) -> FoundPosition:
    fields: dict[str, Any] = dict(row)
    fields["epoch"] = wire_epoch(fields.pop("database_epoch"))
    for name in ("as_of", "entry_time", "updated_at", "unconfirmed_since"):
        fields[name] = None if fields[name] is None else iso(fields[name])
    return FoundPosition(**fields)

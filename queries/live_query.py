"""Live queries: one statement reads every channel of many accounts in one consistent cut.

Each channel is one file (`status.py`, `positions.py`, `guards.py`, `alerts.py`) with the columns that it reads and the
function from a row of them to its state. All channels together are one statement, because one statement is one snapshot
of the database: all channels of an account stand at the same revision, for one round trip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from guardwire.patch import State
from guardwire.state import STATE_VERSION
from queries.records import ends_true
from queries.timestamps import iso
from realtime.owners import count_blocked


class LiveQuery(NamedTuple):
    """A channel: its name, the columns that it reads, and the pure function from a row of them to its state.

    ``columns`` is a select list over `watched` (the accounts asked for), `account` (guardwire.accounts), `limits`
    (guardwire.limits), `defaults` (the limits of an account that set none), `book` (the account's open positions)
    and `backfill`; `account` and `limits` are null for an account that never wrote a row. Each of the
    ``collections`` is a column that holds an array of records (`records.py`), whose last fields say whether they
    are the account's own.
    """

    channel: str
    columns: str
    shape: Callable[[Mapping[str, Any]], State]
    collections: tuple[str, ...] = ()


class Evaluation(NamedTuple):
    """One account at one revision; ``as_of`` is the database's time just before the read."""

    user_id: UUID
    epoch: int
    revision: int
    as_of: str
    state: State


# The limits show the planner that these tables have one row. It assumes a thousand rows in an unanalysed table, and
# then estimates such a high cost for their product that it compiles the statement, which takes 0.7 s.
_STATEMENT = """
SELECT watched.user_id,
       epoch.epoch AS database_epoch,
       coalesce(account.revision, 0) AS revision,
       statement_timestamp() AS as_of,
       coalesce(account.user_id, watched.user_id) = watched.user_id
           AND coalesce(limits.user_id, watched.user_id) = watched.user_id AND book.own AS own,
       {columns}
FROM unnest($1::uuid[]) AS watched (user_id)
CROSS JOIN (SELECT epoch FROM guardwire.epoch LIMIT 1) AS epoch
CROSS JOIN (SELECT done FROM guardwire.backfill LIMIT 1) AS backfill
LEFT JOIN guardwire.accounts AS account ON account.user_id = watched.user_id
LEFT JOIN guardwire.limits AS limits ON limits.user_id = watched.user_id
CROSS JOIN (SELECT * FROM guardwire.limits WHERE user_id = guardwire.no_account() LIMIT 1) AS defaults
CROSS JOIN LATERAL ({book}) AS book
"""


_VERSIONS: Final = 8


def wire_epoch(database_epoch: int) -> int:
    """The epoch that clients see: the database's epoch and `STATE_VERSION` in one number below 2^53."""
    return database_epoch * _VERSIONS + STATE_VERSION


def database_epoch(wire_epoch: int) -> int:
    """The database's epoch in an epoch that clients see."""
    return wire_epoch // _VERSIONS


class LiveQueries:
    """The channels of one deployment, ready to be evaluated over any number of accounts at once.

    ``book`` is the subquery of an account's open positions (`queries.positions.BOOK`).
    """

    def __init__(self, channels: Sequence[LiveQuery], *, book: str) -> None:
        self.channels = tuple(channels)
        self._collections = tuple(name for channel in channels for name in channel.collections)
        self.statement = _STATEMENT.format(
            columns=",\n       ".join(channel.columns.strip() for channel in channels), book=book
        )

    async def evaluate(
        self, connection: asyncpg.Connection, user_ids: Iterable[UUID], *, timeout_seconds: float = 5.0
    ) -> list[Evaluation]:
        """The state of each account, in no particular order.

        An account without any row is empty at revision 0. An account whose row holds data of another account is left
        out.
        """
        wanted = frozenset(user_ids)
        rows = await connection.fetch(self.statement, list(wanted), timeout=timeout_seconds)
        return [self._shape(row) for row in rows if self._is_own(row, wanted)]

    def _is_own(self, row: Mapping[str, Any], wanted: frozenset[UUID]) -> bool:
        """Whether the row was asked for and holds no data of another account; counts and logs a row that does."""
        own = (
            row["own"] is True
            and row["user_id"] in wanted
            and all(ends_true(record) for name in self._collections for record in row[name])
        )
        if not own:
            count_blocked("row", row["user_id"])
        return own

    def _shape(self, row: Mapping[str, Any]) -> Evaluation:
        return Evaluation(
            user_id=row["user_id"],
            epoch=wire_epoch(row["database_epoch"]),
            revision=row["revision"],
            as_of=iso(row["as_of"]),
            state={channel.channel: channel.shape(row) for channel in self.channels},
        )

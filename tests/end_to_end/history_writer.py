"""Writes drawn histories to a real database, applies the inbox, and records the history for the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from queries.capture import housekeep
from realtime.audit.history import (
    AlertsEnded,
    Arrival,
    Change,
    EquityRow,
    GhostsNoted,
    Limits,
    LogRow,
)
from tests.end_to_end import tables
from tests.end_to_end.naming import Names
from tests.end_to_end.statements import (
    Columns,
    Housekeeping,
    InsertEquity,
    InsertLog,
    InsertRate,
    RemoveEquity,
    RolledBack,
    SetInstrument,
    SetLimits,
    Statement,
    Transaction,
    UpdateEquity,
    UpdateLog,
    UpdateTicket,
)
from tests.inbox import apply_batches, wait_for_empty_inbox

#: The inbox is applied after every commit except each so many-th, so that some batches hold several commits.
_APPLIED_LATER = 3
_REMOVE_EQUITY = "DELETE FROM equity_snapshots WHERE id = $1"
#: Fields of a row that a drawn column of another name gives.
_FIELDS = {"second": "created_at"}
_MAKE_DUE = "UPDATE guardwire.accounts SET sync_due_at = clock_timestamp() WHERE sync_due_at IS NOT NULL"
#: The clock at which the triggers copied the last rows of this transaction, the last one first.
_ARRIVED = (
    "SELECT arrived_at FROM guardwire.inbox WHERE xid = pg_current_xact_id() ORDER BY nth DESC LIMIT $1"
)


@dataclass(frozen=True)
class _Copied:
    """A change that a trigger copied: ``nth`` is the order of statements, ``at`` the clock."""

    nth: int
    at: datetime
    change: Change


@dataclass
class _Open:
    """A transaction under way, with its changes so far."""

    connection: Any
    transaction: Any
    due: int
    copied: list[_Copied] = field(default_factory=list)
    rows: dict[str, LogRow | EquityRow] = field(default_factory=dict)


@dataclass
class HistoryWriter:
    """Writes one history over several connections; `arrivals` are the applied changes in order.

    Among the rows of one batch the order of their statements counts, and batches count in their order: the applier
    records the same. ``deltas`` are those of the batches. With ``node_applies`` a running node is the applier, and the
    writer waits for it after each commit.
    """

    connections: Sequence[Any]
    applier: Any
    node_applies: bool = False
    names: Names = field(default_factory=Names)
    arrivals: list[Arrival] = field(default_factory=list)
    deltas: list[str] = field(default_factory=list)
    _rows: dict[str, LogRow | EquityRow] = field(default_factory=dict)
    _late: list[_Open] = field(default_factory=list)
    _committed: list[_Copied] = field(default_factory=list)
    _begun: int = 0
    _statements: int = 0

    async def write(self, history: Sequence[Transaction]) -> None:
        """Write all of ``history``, commit or roll back, and apply it."""
        await self.begin()
        for transaction in history:
            await self.perform(transaction)
        await self.finish()

    async def begin(self) -> None:
        """Insert the symbols that are known from the start."""
        for instrument in self.names.first_instruments():
            await tables.set_instrument(self.connections[0], instrument)
        await self.apply()

    async def perform(self, transaction: Transaction) -> None:
        """Write one transaction and end it; late ones that are due commit before."""
        self._begun += 1
        for late in [each for each in self._late if each.due < self._begun]:
            await self._commit(late)
        busy = [late.connection for late in self._late]
        free = [connection for connection in self.connections if connection not in busy]
        connection = free[self._begun % len(free)]
        opened = _Open(connection, connection.transaction(), self._begun + transaction.later)
        await opened.transaction.start()
        for statement in transaction.statements:
            await self._execute(opened, statement)
        if transaction.fate == "late" and len(free) > 1:
            self._late.append(opened)
        elif transaction.fate == "rollback":
            await opened.transaction.rollback()
        else:
            await self._commit(opened)

    async def finish(self) -> None:
        """Commit the open transactions, and apply everything."""
        while self._late:
            await self._commit(self._late[0])
        await self.apply()

    async def apply(self) -> None:
        """Apply every committed row."""
        if self.node_applies:
            await wait_for_empty_inbox(self.applier)
        else:
            for batch in await apply_batches(self.applier):
                self.deltas += [delta for delta in batch["deltas"] or () if delta is not None]
        for copied in sorted(self._committed, key=lambda each: each.nth):
            self.arrivals.append(Arrival(copied.change, len(self.arrivals) + 1, copied.at))
        self._committed.clear()

    async def abandon(self) -> None:
        """Roll back the transactions that a failure left open."""
        for connection in self.connections:
            if connection.is_in_transaction():
                # Otherwise the driver would take a new transaction for a savepoint of the old one.
                await connection.reset()

    async def _commit(self, opened: _Open) -> None:
        await opened.transaction.commit()
        if opened in self._late:
            self._late.remove(opened)
        self._committed += opened.copied
        self._rows |= opened.rows
        if self.node_applies or self._begun % _APPLIED_LATER:
            await self.apply()

    async def _copy(self, opened: _Open, at: datetime, *changes: Change) -> None:
        """Note what a statement changed, in the order of the rows, with the clock that the trigger noted for each."""
        arrived = await opened.connection.fetch(_ARRIVED, len(changes))
        noted = [row["arrived_at"] for row in reversed(arrived)] if len(arrived) == len(changes) else []
        for change, moment in zip(changes, noted or [at] * len(changes), strict=True):
            self._statements += 1
            opened.copied.append(_Copied(self._statements, moment, change))

    async def _execute(self, opened: _Open, statement: Statement) -> None:
        names, rows, at = self.names, self._rows | opened.rows, datetime.now(UTC)
        log = {row.id: row for row in rows.values() if isinstance(row, LogRow)}
        equity = [row for row in rows.values() if isinstance(row, EquityRow)]
        match statement:
            case InsertLog(drawn):
                await self._insert(opened, tables.LOG, [names.log_row(columns) for columns in drawn])
            case InsertEquity(drawn):
                await self._insert(opened, tables.EQUITY, [names.equity_row(columns) for columns in drawn])
            case InsertRate(base, quote, rate, second):
                await self._insert(opened, tables.FX, [names.rate(base, quote, rate, second)])
            case UpdateLog(which, columns):
                await self._update(opened, list(log)[which % len(log) :][:1] if log else [], columns)
            case UpdateTicket(user, ticket, columns):
                whose = names.users[user], ticket
                ids = [row.id for row in log.values() if (row.user_id, row.ticket) == whose]
                await self._update(opened, ids, columns)
            case UpdateEquity(which, columns) if equity:
                await self._update_equity(opened, equity[which % len(equity)], columns)
            case RemoveEquity(which) if equity:
                await opened.connection.execute(_REMOVE_EQUITY, equity[which % len(equity)].id)
            case SetLimits(user, columns):
                await self._set_limits(opened, names.limits(user, columns), forget=columns is None)
            case SetInstrument():
                instrument = names.instrument(statement)
                await tables.set_instrument(opened.connection, instrument)
                await self._copy(opened, at, instrument)
            case Housekeeping():
                await self._housekeep()
            case RolledBack(statements):
                await self._roll_back(opened, statements)

    async def _housekeep(self) -> None:
        """Run a node's housekeeping in a transaction of its own."""
        await self.apply()
        # An account is looked at when its sync may be overdue.
        await self.applier.execute(_MAKE_DUE)
        at = datetime.now(UTC)
        await housekeep(self.applier)
        for change in (
            change(user_id) for change in (GhostsNoted, AlertsEnded) for user_id in self.names.users
        ):
            self.arrivals.append(Arrival(change, len(self.arrivals) + 1, at))

    async def _insert(self, opened: _Open, table: tables.Table, rows: Sequence[Any]) -> None:
        at = datetime.now(UTC)
        await table.insert(opened.connection, rows)
        await self._copy(opened, at, *rows)
        opened.rows |= {row.id: row for row in rows if isinstance(row, LogRow | EquityRow)}

    async def _update(self, opened: _Open, ids: Sequence[str], columns: Columns) -> None:
        await self._change(opened, tables.LOG, ids, self.names.changes(columns))

    async def _update_equity(self, opened: _Open, row: EquityRow, columns: Columns) -> None:
        changed = self.names.equity_row(
            {
                "user": self.names.users.index(row.user_id),
                "currency": None,
                "second": None,
                "equity": None,
                **columns,
            }
        )
        fields = {_FIELDS.get(name, name) for name in columns}
        await self._change(opened, tables.EQUITY, [row.id], {name: getattr(changed, name) for name in fields})

    async def _change(self, opened: _Open, table: tables.Table, ids: Sequence[str], changes: Columns) -> None:
        rows, at = self._rows | opened.rows, datetime.now(UTC)
        changed: list[Change] = []
        for row_id in await table.update(opened.connection, ids, changes):
            row = replace(rows[row_id], inserted=False, **changes)
            opened.rows[row_id] = row
            changed.append(row)
        await self._copy(opened, at, *changed)

    async def _set_limits(self, opened: _Open, limits: Limits, *, forget: bool) -> None:
        at = datetime.now(UTC)
        if forget and not await tables.forget_limits(opened.connection, limits.user_id):
            return
        if not forget:
            await tables.set_limits(opened.connection, limits)
        await self._copy(opened, at, limits)

    async def _roll_back(self, opened: _Open, statements: Sequence[Statement]) -> None:
        kept = list(opened.copied), dict(opened.rows)
        savepoint = opened.connection.transaction()
        await savepoint.start()
        for statement in statements:
            await self._execute(opened, statement)
        await savepoint.rollback()
        opened.copied, opened.rows = kept

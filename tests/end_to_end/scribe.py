"""Writes drawn histories to a real database, and keeps the history that the oracle judges by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from queries.capture import housekeep
from realtime.audit.history import AlertsEnded, Arrival, Change, Limits, LogRow
from tests.end_to_end import tables
from tests.end_to_end.naming import Names
from tests.end_to_end.statements import (
    Columns,
    Housekeeping,
    InsertEquity,
    InsertLog,
    InsertRate,
    RolledBack,
    SetInstrument,
    SetLimits,
    Statement,
    Transaction,
    UpdateLog,
    UpdateTicket,
)


@dataclass
class _Open:
    """A transaction under way, and what it has written so far."""

    connection: Any
    transaction: Any
    due: int
    changes: list[Change] = field(default_factory=list)
    rows: dict[str, LogRow] = field(default_factory=dict)


@dataclass
class Scribe:
    """Writes one history over several connections; `arrivals` is what was committed, in order."""

    connections: Sequence[Any]
    names: Names = field(default_factory=Names)
    arrivals: list[Arrival] = field(default_factory=list)
    _rows: dict[str, LogRow] = field(default_factory=dict)
    _late: list[_Open] = field(default_factory=list)
    _begun: int = 0

    async def write(self, history: Sequence[Transaction]) -> None:
        """Write all of ``history`` and commit what is to be committed."""
        await self.begin()
        for transaction in history:
            await self.perform(transaction)
        await self.finish()

    async def begin(self) -> None:
        """Make the symbols known that are known from the start."""
        for instrument in self.names.first_instruments():
            await tables.set_instrument(self.connections[0], instrument)

    async def perform(self, transaction: Transaction) -> None:
        """Write one transaction and give it its fate; late ones that are due commit before it."""
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
        """Commit what is still open."""
        while self._late:
            await self._commit(self._late[0])

    async def abandon(self) -> None:
        """Take back what a failure left open."""
        for connection in self.connections:
            if connection.is_in_transaction():
                await connection.execute("ROLLBACK")

    async def _commit(self, opened: _Open) -> None:
        at = datetime.now(UTC)
        await opened.transaction.commit()
        if opened in self._late:
            self._late.remove(opened)
        for change in _committed(opened.changes):
            self.arrivals.append(Arrival(change, len(self.arrivals) + 1, at))
        self._rows |= opened.rows

    async def _execute(self, opened: _Open, statement: Statement) -> None:
        names, rows = self.names, self._rows | opened.rows
        match statement:
            case InsertLog(drawn):
                await self._insert(opened, tables.LOG, [names.log_row(columns) for columns in drawn])
            case InsertEquity(drawn):
                await self._insert(opened, tables.EQUITY, [names.equity_row(columns) for columns in drawn])
            case InsertRate(base, quote, rate, second):
                await self._insert(opened, tables.FX, [names.rate(base, quote, rate, second)])
            case UpdateLog(which, columns):
                await self._update(opened, list(rows)[which % len(rows) :][:1] if rows else [], columns)
            case UpdateTicket(user, ticket, columns):
                whose = names.users[user], ticket
                ids = [row.id for row in rows.values() if (row.user_id, row.ticket) == whose]
                await self._update(opened, ids, columns)
            case SetLimits(user, columns):
                await self._set_limits(opened, names.limits(user, columns), forget=columns is None)
            case SetInstrument():
                instrument = names.instrument(statement)
                await tables.set_instrument(opened.connection, instrument)
                opened.changes.append(instrument)
            case Housekeeping():
                await housekeep(opened.connection)
                opened.changes += [AlertsEnded(user_id) for user_id in names.users]
            case RolledBack(statements):
                await self._roll_back(opened, statements)

    async def _insert(self, opened: _Open, table: tables.Table, rows: Sequence[Any]) -> None:
        await table.insert(opened.connection, rows)
        opened.changes += rows
        opened.rows |= {row.id: row for row in rows if isinstance(row, LogRow)}

    async def _update(self, opened: _Open, ids: Sequence[str], columns: Columns) -> None:
        rows, changes = self._rows | opened.rows, self.names.changes(columns)
        for row_id in await tables.LOG.update(opened.connection, ids, changes):
            row = replace(rows[row_id], inserted=False, **changes)
            opened.rows[row_id] = row
            opened.changes.append(row)

    async def _set_limits(self, opened: _Open, limits: Limits, *, forget: bool) -> None:
        if forget:
            await tables.forget_limits(opened.connection, limits.user_id)
        else:
            await tables.set_limits(opened.connection, limits)
        opened.changes.append(limits)

    async def _roll_back(self, opened: _Open, statements: Sequence[Statement]) -> None:
        kept = list(opened.changes), dict(opened.rows)
        savepoint = opened.connection.transaction()
        await savepoint.start()
        for statement in statements:
            await self._execute(opened, statement)
        await savepoint.rollback()
        opened.changes, opened.rows = kept


def _committed(changes: Sequence[Change]) -> list[Change]:
    """What a commit makes visible: of each row its last version, at its last place."""
    inserted = {change.id for change in changes if isinstance(change, LogRow) and change.inserted}
    committed: dict[object, Change] = {}
    for change in changes:
        key: object = change.id if isinstance(change, LogRow) else object()
        committed.pop(key, None)
        committed[key] = (
            replace(change, inserted=change.id in inserted) if isinstance(change, LogRow) else change
        )
    return list(committed.values())

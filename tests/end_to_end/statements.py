"""The statements of a platform as data, combined to transactions.

Users, symbols and currencies are numbers here; `history_writer.py` gives them names that are new in each history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

#: Columns by name; `second` is the row's time after the history's start, `took` its `updated_at` after that.
Columns = Mapping[str, Any]


@dataclass(frozen=True)
class InsertLog:
    """One statement that inserts these rows."""

    rows: tuple[Columns, ...]


@dataclass(frozen=True)
class UpdateLog:
    """One statement that changes ``columns`` of a present row, which ``which`` selects."""

    which: int
    columns: Columns


@dataclass(frozen=True)
class UpdateTicket:
    """One statement that changes ``columns`` of all rows of a ticket."""

    user: int
    ticket: int
    columns: Columns


@dataclass(frozen=True)
class InsertEquity:
    """One statement that inserts these rows."""

    rows: tuple[Columns, ...]


@dataclass(frozen=True)
class UpdateEquity:
    """One statement that changes ``columns`` of a present row, which ``which`` selects."""

    which: int
    columns: Columns


@dataclass(frozen=True)
class RemoveEquity:
    """One statement that deletes a present row, which ``which`` selects."""

    which: int


@dataclass(frozen=True)
class SetLimits:
    """New limits of a user; None removes the row."""

    user: int
    columns: Columns | None


@dataclass(frozen=True)
class SetInstrument:
    """A new contract of a symbol; ``symbol`` is a number, like the users."""

    symbol: int
    contract_size: Decimal
    quote_currency: int


@dataclass(frozen=True)
class InsertRate:
    """A row of exchange rates; currencies are numbers."""

    base: int
    quote: int
    rate: Any
    second: float | None


@dataclass(frozen=True)
class Housekeeping:
    """A node's housekeeping, which commits the effects of time."""


@dataclass(frozen=True)
class RolledBack:
    """Statements inside a savepoint that is rolled back."""

    statements: tuple[Statement, ...]


Statement = (
    InsertLog
    | UpdateLog
    | UpdateTicket
    | InsertEquity
    | UpdateEquity
    | RemoveEquity
    | SetLimits
    | SetInstrument
    | InsertRate
    | Housekeeping
    | RolledBack
)


@dataclass(frozen=True)
class Transaction:
    """Statements with their end; a ``late`` transaction commits after ``later`` others that began after it."""

    statements: tuple[Statement, ...]
    fate: Literal["commit", "rollback", "late"] = "commit"
    later: int = 1


USERS = 3
SYMBOLS = 4
CURRENCIES = 3

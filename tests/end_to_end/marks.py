"""Rows that name their owner in every field, and a search for foreign marks in frames."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Final
from uuid import UUID, uuid4

from realtime.audit.history import EquityRow, LogRow

_MARK: Final = re.compile(r"owner([0-9]+)x")
_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: The money of owner n ends in the digits n, in cents.
_EQUITY: Final = re.compile(r'"current_equity":([0-9.]+)')


@dataclass
class Owner:
    """A user whose rows can be distinguished from those of all other users."""

    number: int
    user_id: UUID
    tickets: tuple[int, ...]

    @property
    def mark(self) -> str:
        """Stands in every text of this owner's rows."""
        return f"owner{self.number}x"

    def equity(self, random: Random) -> Decimal:
        """An amount whose cents are the owner's number."""
        return Decimal(random.randrange(9_000, 10_000)) + Decimal(self.number) / 100


@dataclass
class Marks:
    """Makes marked rows, and remembers the owner of each row."""

    random: Random
    owner_of_row: dict[str, int] = field(default_factory=dict)
    _seconds: itertools.count[int] = field(default_factory=itertools.count)

    def log_row(self, owner: Owner) -> LogRow:
        """A sync, a divergence, a close or a guard trigger of ``owner``."""
        random = self.random
        event_type = random.choice(["sync"] * 6 + ["divergence", "close", "guard_trigger", "guard_trigger"])
        row_id = self._new_id(owner)
        guard = event_type == "guard_trigger"
        word = random.choice(["gap", "spread", "liquidity"]) if guard else "reason"
        return LogRow(
            id=row_id,
            user_id=owner.user_id,
            ticket=None if guard else random.choice(owner.tickets),
            event_type=event_type,
            symbol=f"{owner.mark}{random.randrange(3)}",
            direction="buy",
            volume=Decimal("0.1"),
            entry_price=Decimal(100),
            current_price=Decimal(random.randrange(90, 140)),
            matched=2 if event_type == "divergence" else 1,
            divergence_reason=f"{word} of {owner.mark}",
            close_reason=f"closed by {owner.mark}" if event_type == "close" else None,
            error_message=random.choice([None, f"error of {owner.mark}"]),
            created_at=self._now(),
        )

    def equity_row(self, owner: Owner) -> EquityRow:
        """An equity row of ``owner``, sometimes so low that it is a breach."""
        equity = owner.equity(self.random) - self.random.choice([0, 0, 0, 4_000])
        return EquityRow(
            id=self._new_id(owner),
            user_id=owner.user_id,
            equity=equity,
            balance=equity,
            currency=owner.mark[:16].upper(),
            created_at=self._now(),
        )

    def foreign(self, owner: Owner, text: str) -> list[str]:
        """The marks of other owners in a frame to ``owner``."""
        marks = [found for found in _MARK.findall(text.lower()) if int(found) != owner.number]
        ids = [
            found for found in _ID.findall(text) if self.owner_of_row.get(found, owner.number) != owner.number
        ]
        money = [
            found for found in _EQUITY.findall(text) if round(float(found) * 100) % 100 != owner.number % 100
        ]
        return marks + ids + money

    def _new_id(self, owner: Owner) -> str:
        row_id = str(uuid4())
        self.owner_of_row[row_id] = owner.number
        return row_id

    def _now(self) -> datetime:
        # Distinct and growing, so that rows of one commit have an order.
        return datetime.now(UTC) + timedelta(microseconds=next(self._seconds) % 1000)

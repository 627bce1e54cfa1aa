"""Gives the numbers of a drawn history names of their own, so that many histories share one database."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid4

from realtime.audit.history import EquityRow, FxRate, Instrument, Limits, LogRow
from tests.end_to_end.statements import USERS, Columns, SetInstrument

_histories = itertools.count()
#: Rows are older than any event during a test, so that none of their times is taken for the clock's. They are young
#: enough that equity is not overdue.
_AGO: Final = timedelta(minutes=4)
#: Different seconds of a drawn history are further apart than the 5 s within which a clock that went back is steady.
_SPREAD: Final = 7
_ODD_TIMES: Final[dict[str, datetime | str]] = {
    "old": datetime(1960, 1, 1, tzinfo=UTC),
    "infinity": "infinity",
    "-infinity": "-infinity",
}


@dataclass(frozen=True)
class Names:
    """Users, symbols, currencies and times of one history."""

    users: tuple[UUID, ...] = field(default_factory=lambda: tuple(uuid4() for _ in range(USERS)))
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))
    number: int = field(default_factory=lambda: next(_histories))

    @property
    def start(self) -> datetime:
        """The time of second 0."""
        return self.begun.replace(microsecond=0) - _AGO

    def log_row(self, columns: Columns) -> LogRow:
        """A row of the log."""
        named = dict(columns)
        user, second, took = named.pop("user"), named.pop("second"), named.pop("took", None)
        named["created_at"] = created_at = self.at(second)
        if isinstance(took, str) or not isinstance(created_at, datetime):
            named["updated_at"] = took if isinstance(took, str) else None
        elif took is not None:
            named["updated_at"] = created_at + timedelta(seconds=took)
        if "symbol" in named:
            named["symbol"] = self.symbol(named["symbol"])
        return LogRow(id=str(uuid4()), user_id=None if user is None else self.users[user], **named)

    def changes(self, columns: Columns) -> dict[str, Any]:
        """The columns that an update sets, by field."""
        named = dict(columns)
        if "took" in named:
            took = named.pop("took")
            named["updated_at"] = self.start + timedelta(seconds=took) if isinstance(took, float) else took
        return named

    def equity_row(self, columns: Columns) -> EquityRow:
        """A row of equity."""
        named = dict(columns)
        currency = named.pop("currency")
        return EquityRow(
            id=str(uuid4()),
            user_id=self.users[named.pop("user")],
            created_at=self.at(named.pop("second")),
            currency=self.currency(currency) if isinstance(currency, int) else currency,
            **named,
        )

    def rate(self, base: int, quote: int, rate: Any, second: float | None) -> FxRate:
        """A row of exchange rates."""
        return FxRate(
            base=self.currency(base), quote=self.currency(quote), rate=rate, created_at=self.at(second)
        )

    def limits(self, user: int, columns: Columns | None) -> Limits:
        """Limits; None stands for the defaults. A warning level above the critical one is lowered to it."""
        named = dict(columns or {})
        if named.get("peak_since") is not None:
            named["peak_since"] = self.at(named["peak_since"])
        limits = Limits(user_id=self.users[user])
        warning = named.get("drawdown_warning_pct", limits.drawdown_warning_pct)
        critical = named.get("drawdown_critical_pct", limits.drawdown_critical_pct)
        return Limits(user_id=self.users[user], **named | {"drawdown_warning_pct": min(warning, critical)})

    def instrument(self, statement: SetInstrument) -> Instrument:
        """A contract."""
        symbol = self.symbol(statement.symbol)
        assert symbol is not None
        return Instrument(
            symbol=symbol,
            contract_size=statement.contract_size,
            quote_currency=self.currency(statement.quote_currency),
        )

    def first_instruments(self) -> list[Instrument]:
        """Two of the symbols are known from the start."""
        return [self.instrument(SetInstrument(at, Decimal(100), at)) for at in range(2)]

    def symbol(self, symbol: int | str | None) -> str | None:
        if symbol == "lower":
            return f"s{self.number}x0"
        if isinstance(symbol, str) and "@" in symbol:
            return symbol.replace("@", f"S{self.number}X0")
        return f"S{self.number}X{symbol}" if isinstance(symbol, int) else symbol

    def currency(self, currency: int) -> str:
        return f"C{self.number}X{currency}"

    def at(self, second: float | str | timedelta | None) -> datetime | str | None:
        """The time of a row: seconds after the start, what a clock that is off shows now, or an unusable one."""
        if second is None:
            return None
        if isinstance(second, timedelta):
            return datetime.now(UTC) + second
        return (
            _ODD_TIMES[second]
            if isinstance(second, str)
            else self.start + timedelta(seconds=second * _SPREAD)
        )

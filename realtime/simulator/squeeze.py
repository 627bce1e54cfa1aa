"""An oversized position turns against the account: equity falls through a limit and recovers. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from realtime.simulator.account import Account, Position
from realtime.simulator.market import INSTRUMENTS
from realtime.simulator.rows import LogRow

_FALL_SECONDS: Final = 22.0
_HOLD_SECONDS: Final = 9.0
_RECOVER_SECONDS: Final = 28.0
#: How far the price goes at the worst, as a fraction: quick, but such days exist.
_WORST_MOVE: Final = 0.018


@dataclass(slots=True)
class Squeeze:
    """How the stress on one symbol of one account rises and eases."""

    position: Position
    begun: float
    worst: float

    @classmethod
    def begin(cls, account: Account, depth_pct: float, elapsed: float, now: datetime) -> tuple[Self, LogRow]:
        """Open gold so large that its worst price takes equity ``depth_pct`` below the peak, and its row."""
        gold = INSTRUMENTS[0]
        loss = max(account.equity() - account.peak * (1 - depth_pct / 100), 1.0)
        others = sum(
            position.volume * (1 if position.buy else -1)
            for position in account.book
            if position.instrument is gold
        )
        lot = account.market.worth(
            account.market.prices[gold.symbol] * _WORST_MOVE * gold.contract_size,
            gold.quote_currency,
            account.currency,
        )
        account.open(now, instrument=gold)
        position = account.book[-1]
        # What the account already holds on the other side earns while this one loses.
        other = others if position.buy else -others
        position.volume = max(0.01, round(loss / lot - other, 2))
        return cls(position, elapsed, -_WORST_MOVE if position.buy else _WORST_MOVE), account.sync(
            position, now
        )

    def advance(self, account: Account, elapsed: float) -> bool:
        """Set the stress for this moment; False once it is over."""
        second = elapsed - self.begun
        if second < _FALL_SECONDS:
            share = _ease(second / _FALL_SECONDS)
        elif second < _FALL_SECONDS + _HOLD_SECONDS:
            share = 1.0
        else:
            share = 1 - _ease((second - _FALL_SECONDS - _HOLD_SECONDS) / _RECOVER_SECONDS)
        account.stress[self.position.instrument.symbol] = self.worst * max(share, 0.0)
        return second < _FALL_SECONDS + _HOLD_SECONDS + _RECOVER_SECONDS


def _ease(share: float) -> float:
    """0 to 1, slow at both ends."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)

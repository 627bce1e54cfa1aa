"""The market: symbols whose prices move together, a little at a time, as real ones do. Pure, seeded."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Final


@dataclass(frozen=True, slots=True)
class Instrument:
    """A symbol in a broker's list; ``volatility`` is the usual relative move in one second."""

    symbol: str
    price: float
    digits: int
    volatility: float
    contract_size: float
    quote_currency: str
    #: Volumes that a retail account trades, in lots.
    volumes: tuple[float, ...]
    #: How strongly the price follows the market's mood and the dollar, from -1 to 1.
    mood: float
    dollar: float


INSTRUMENTS: Final = (
    Instrument("XAUUSD", 2348.60, 2, 6e-5, 100, "USD", (0.05, 0.1, 0.2, 0.3), -0.3, -0.6),
    Instrument("EURUSD", 1.08452, 5, 3e-5, 100_000, "USD", (0.1, 0.2, 0.5, 1.0), 0.2, -0.8),
    Instrument("GBPJPY", 191.374, 3, 4e-5, 100_000, "JPY", (0.1, 0.2, 0.4), 0.6, 0.1),
    Instrument("US500", 5312.4, 1, 5e-5, 1, "USD", (5.0, 10.0, 20.0), 0.9, 0.0),
    Instrument("BTCUSD", 64_820.0, 2, 1.2e-4, 1, "USD", (0.1, 0.25, 0.5), 0.6, -0.2),
    Instrument("GBPUSD", 1.27138, 5, 3e-5, 100_000, "USD", (0.1, 0.2, 0.5), 0.3, -0.7),
    Instrument("USDJPY", 150.524, 3, 3e-5, 100_000, "JPY", (0.1, 0.2, 0.5), 0.3, 0.7),
    Instrument("XAGUSD", 28.145, 3, 1e-4, 5_000, "USD", (0.05, 0.1), 0.0, -0.6),
)

#: Further symbols of which the platform reports market conditions; the demo's accounts hold none of them.
WATCHED: Final = (("NAS100", 18_742.6, 1), ("USOIL", 78.34, 2), ("ETHUSD", 3_412.5, 2), ("GBPNZD", 2.0871, 4))

_HALF_LIFE_SECONDS: Final = 900.0
_CALM_SECONDS: Final = 120.0


@dataclass(slots=True)
class Market:
    """Prices now; `advance` moves them all. The same ``random`` gives the same prices."""

    random: Random
    prices: dict[str, float] = field(init=False)
    _heat: float = 0.0

    def __post_init__(self) -> None:
        self.prices = {
            instrument.symbol: instrument.price * (1 + self.random.gauss(0, 0.002))
            for instrument in INSTRUMENTS
        }

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` of market time pass: common shocks, each symbol's own, and a slow pull to the start."""
        step = math.sqrt(seconds)
        # Quiet and busy minutes follow each other: the volatility varies between about half and twice the usual.
        self._heat += (
            self.random.gauss(0, 0.6) * math.sqrt(seconds / _CALM_SECONDS)
            - self._heat * seconds / _CALM_SECONDS
        )
        heat = math.exp(max(-0.7, min(0.7, self._heat)))
        mood, dollar = self.random.gauss(0, 1), self.random.gauss(0, 1)
        pull = 1 - 0.5 ** (seconds / _HALF_LIFE_SECONDS)
        for instrument in INSTRUMENTS:
            own = math.sqrt(max(0.0, 1 - instrument.mood**2 - instrument.dollar**2))
            shock = instrument.mood * mood + instrument.dollar * dollar + own * self.random.gauss(0, 1)
            price = self.prices[instrument.symbol]
            price *= math.exp(instrument.volatility * heat * step * shock)
            self.prices[instrument.symbol] = price + (instrument.price - price) * pull

    def fx_rates(self) -> list[tuple[str, str, Decimal]]:
        """Rates that accounts in dollars, pounds and euros need, as (base, quote, rate)."""
        prices = self.prices
        return [
            ("EUR", "USD", quoted(prices["EURUSD"], 5)),
            ("GBP", "USD", quoted(prices["GBPUSD"], 5)),
            ("USD", "JPY", quoted(prices["USDJPY"], 3)),
            ("GBP", "JPY", quoted(prices["GBPJPY"], 3)),
            ("EUR", "JPY", quoted(prices["EURUSD"] * prices["USDJPY"], 3)),
            ("EUR", "GBP", quoted(prices["EURUSD"] / prices["GBPUSD"], 5)),
        ]

    def worth(self, amount: float, quote_currency: str, currency: str) -> float:
        """``amount`` of dollars or yen in dollars or pounds, by the prices now."""
        if quote_currency == currency:
            return amount
        if quote_currency == "JPY":
            return amount / self.prices["GBPJPY" if currency == "GBP" else "USDJPY"]
        return amount / self.prices["GBPUSD"]


def quoted(price: float, digits: int) -> Decimal:
    """A price with ``digits`` decimals."""
    return Decimal(f"{price:.{digits}f}")

"""Sums of money agree with decimal arithmetic to the cent, at ties and at any size."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from queries.channels import LIVE_QUERIES
from realtime.audit import values
from tests.end_to_end.examples import examples

amounts = (
    st.decimals(-(10**9), 10**9, places=3)
    | st.decimals(-10, 10, places=4)
    | st.decimals(-(10**10), 10**10, places=2)
)
rates = st.decimals("0.001", 300, places=3) | st.sampled_from(
    [Decimal(3), Decimal(7), Decimal(300), Decimal("0.6")]
)
balances = st.decimals("0.01", 10**6, places=2) | st.sampled_from(
    [Decimal("1e-10"), Decimal(800), Decimal("1e14")]
)


@dataclass
class Ledger:
    """An account in a database, with positions of known worth that bypass the capture."""

    runner: asyncio.Runner
    connection: Any

    def shown(
        self, amounts: list[Decimal], rate: Decimal, *, inverse: bool, balance: Decimal
    ) -> dict[str, Any]:
        """The shown values of positions worth ``amounts`` yen in an account in dollars."""
        return self.runner.run(self._shown(amounts, rate, inverse=inverse, balance=balance))

    async def _shown(
        self, amounts: list[Decimal], rate: Decimal, *, inverse: bool, balance: Decimal
    ) -> dict[str, Any]:
        user_id = uuid4()
        pair = ("USD", "JPY") if inverse else ("JPY", "USD")
        await self.connection.execute("DELETE FROM guardwire.fx_current")
        await self.connection.execute(
            "INSERT INTO guardwire.fx_current VALUES ($1, $2, $3, now())", *pair, rate
        )
        await self.connection.execute(
            "INSERT INTO guardwire.accounts (user_id, revision, currency, balance) VALUES ($1, 1, 'USD', $2)",
            user_id,
            balance,
        )
        await self.connection.executemany(
            """INSERT INTO guardwire.positions
                   (user_id, ticket, position_id, is_open, matched, entry_time, state_at, state_revision,
                    state_ordinal, updated_at, quote_currency, contract_size, contract_size_assumed, pnl)
               VALUES ($1, $2, gen_random_uuid(), true, 1, now(), now(), 1, 1, now(), 'JPY', 1, false, $3)""",
            [(user_id, ticket, amount) for ticket, amount in enumerate(amounts, 1)],
        )
        (evaluation,) = await LIVE_QUERIES.evaluate(self.connection, [user_id])
        positions: dict[str, Any] = evaluation.state["positions"]
        return positions


@pytest.fixture
def ledger(migrated_url: str) -> Iterator[Ledger]:
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(migrated_url))
        yield Ledger(runner, connection)
        runner.run(connection.close())


@pytest.mark.timeout(300)
def test_profit_is_converted_and_summed_as_in_decimal_arithmetic(ledger: Ledger) -> None:
    @examples(60)
    @given(st.lists(amounts, min_size=1, max_size=8), rates, st.booleans(), balances)
    @example([Decimal("0.015")], Decimal(3), True, Decimal(800))
    @example([Decimal("1.00")], Decimal(1), False, Decimal(800))  # 0.125 %
    @example([Decimal(10**12)], Decimal(300), False, Decimal("1e-10"))
    def whatever_it_is(amounts: list[Decimal], rate: Decimal, inverse: bool, balance: Decimal) -> None:
        shown = ledger.shown(amounts, rate, inverse=inverse, balance=balance)
        with localcontext(values.EXACT):
            worth = [values.rounded(amount / rate if inverse else amount * rate) for amount in amounts]
            total = sum(worth, Decimal(0))
            percent = values.rounded(total * 100 / balance)
        for ticket, amount in enumerate(worth, 1):
            assert shown["open"][str(ticket)]["unrealized_pnl"] == float(amount)
        assert shown["total_unrealized_pnl"] == float(total)
        assert shown["total_unrealized_pnl_pct"] == float(percent)

    whatever_it_is()

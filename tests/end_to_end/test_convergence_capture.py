"""For everything that a platform commits, in any order: the live queries agree with the oracle."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given

from tests.end_to_end.examples import examples
from tests.end_to_end.histories import histories
from tests.end_to_end.history_runner import HistoryRunner
from tests.end_to_end.statements import InsertEquity, InsertLog, InsertRate, SetLimits, Transaction


@pytest.mark.timeout(300)
def test_the_evaluated_state_is_the_oracles(history_runner: HistoryRunner) -> None:
    @examples(50)
    @given(histories)
    def whatever_is_committed(history: list[Transaction]) -> None:
        history_runner.judge(history)

    whatever_is_committed()


def equity(second: float | None, amount: int, flow: int = 0) -> InsertEquity:
    """One equity row of user 0, with a deposit of ``flow``."""
    row = {"user": 0, "equity": Decimal(amount), "balance": Decimal(10_000), "currency": 1}
    return InsertEquity(({**row, "cash_flow": Decimal(flow), "second": second},))


def sync(second: float) -> InsertLog:
    """A sync of a position that earns in currency 0."""
    row: dict[str, Any] = {
        "user": 0,
        "ticket": 1,
        "event_type": "sync",
        "symbol": 0,
        "second": second,
        "matched": 1,
    }
    return InsertLog(({**row, "direction": "buy", "volume": 1, "entry_price": 100, "current_price": 107},))


def gap(second: float, opened: int) -> InsertLog:
    """A price gap from 100 to ``opened``."""
    row: dict[str, Any] = {
        "user": 0,
        "ticket": None,
        "event_type": "guard_trigger",
        "symbol": 0,
        "second": second,
    }
    return InsertLog(({**row, "divergence_reason": "gap", "entry_price": 100, "current_price": opened},))


@pytest.mark.parametrize(
    "history",
    {
        "a late flow and a new one in one commit count once each": [
            [equity(5, 10_000)],
            [equity(1, 9_000, 500), equity(9, 12_000, 2_000)],
        ],
        "a late row is judged before a row that is committed with it": [
            [equity(5, 8_000)],
            [equity(1, 8_000, -1_500), equity(9, 10_485)],
        ],
        "a late row does not see a flow that is committed with it": [
            [equity(5, 8_000)],
            [equity(1, 9_000), equity(9, 9_000, 2_000)],
        ],
        "rows of one time are in the order of their arrival": [
            *([equity(5, 8_000, 1_000 * number)] for number in (1, -2, 3, -4)),
            [equity(9, 8_500)],
            [equity(2, 8_000, 10)],
        ],
        "a row without a time counts from its arrival on": [[equity(None, 60, 2_000)], [equity(0, 60)]],
        "of two rates of one time the one that arrived later counts": [
            [equity(0, 10_000), sync(1)],
            [InsertRate(0, 1, Decimal("1.5"), 2)],
            [InsertRate(0, 1, Decimal("2.5"), 2)],
        ],
        "tighter limits raise an alert that stands": [
            [gap(3, 107)],
            [SetLimits(0, {"gap_critical_pct": Decimal(6)})],
        ],
        "looser limits clear the breach of an alert that stands": [
            [gap(3, 111)],
            [SetLimits(0, {"gap_critical_pct": Decimal(12)})],
        ],
    }.items(),
    ids=lambda named: named[0],
)
def test_histories_that_chance_seldom_draws(
    history_runner: HistoryRunner, history: tuple[str, list[list[Any]]]
) -> None:
    history_runner.judge([Transaction(tuple(statements)) for statements in history[1]])

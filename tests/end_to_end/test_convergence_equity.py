"""Equity that is corrected in place, pruned or reset: the peak is what the oracle folds from all that came."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.audit.auditing import differences
from tests.end_to_end.examples import examples
from tests.end_to_end.history_runner import HistoryRunner
from tests.end_to_end.statements import (
    InsertEquity,
    RemoveEquity,
    SetLimits,
    Statement,
    Transaction,
    UpdateEquity,
)

_amounts = st.sampled_from(
    list(
        map(
            Decimal,
            ["10000", "10000", "9000", "8600", "8000", "7000", "12000", "1500", "1200", "60000", "0", "-5"],
        )
    )
)
_flows = st.sampled_from([Decimal(0)] * 6 + [Decimal(2_000), Decimal(-1_500), Decimal(-20_000)])
#: Most rows come in the order of their times, and some are late.
_seconds = st.sampled_from(
    [timedelta(0)] * 6 + [timedelta(seconds=-3), timedelta(seconds=-90), timedelta(hours=-1)]
)
_columns = {
    "equity": _amounts,
    "balance": st.sampled_from([None, Decimal(10_000), Decimal(0)]),
    "currency": st.sampled_from([1] * 8 + [2, None]),
    "cash_flow": _flows,
    "second": _seconds,
}
_rows = st.fixed_dictionaries({"user": st.just(0), **_columns})
_changes = st.fixed_dictionaries({}, optional=_columns).filter(bool)


def _inserts(rows: st.SearchStrategy[Any]) -> st.SearchStrategy[Statement]:
    return st.builds(InsertEquity, st.lists(rows, min_size=1, max_size=2).map(tuple))


#: The peak begins with the equity that stands now, or with that of some time ago, or is the highest of all.
_resets = st.builds(
    SetLimits,
    st.just(0),
    st.fixed_dictionaries({"peak_since": st.sampled_from([timedelta(0), timedelta(0), None])}),
)
_past_resets = st.builds(
    SetLimits,
    st.just(0),
    st.fixed_dictionaries(
        {
            "peak_since": st.sampled_from(
                [timedelta(0), timedelta(milliseconds=-20), timedelta(minutes=-5), None]
            )
        }
    ),
)
_corrections = st.builds(UpdateEquity, st.integers(0, 20), _changes)
_removals = st.builds(RemoveEquity, st.integers(0, 20))


def _histories(*statements: st.SearchStrategy[Statement]) -> st.SearchStrategy[list[Transaction]]:
    drawn = st.integers(0, len(statements) - 1).flatmap(lambda at: statements[at])
    return st.lists(drawn.map(lambda each: Transaction((each,))), min_size=2, max_size=14)


@pytest.fixture
def runner(migrated_url: str) -> Iterator[HistoryRunner]:
    runner = HistoryRunner.open(migrated_url)
    yield runner
    runner.close()


@pytest.mark.timeout(300)
def test_equity_that_is_corrected_and_peaks_that_are_reset(runner: HistoryRunner) -> None:
    @examples(30)
    @given(_histories(_inserts(_rows), _inserts(_rows), _corrections, _past_resets))
    def whatever_is_corrected(history: list[Transaction]) -> None:
        runner.judge(history)

    whatever_is_corrected()


@pytest.mark.timeout(300)
def test_equity_that_is_pruned_and_peaks_that_are_reset(runner: HistoryRunner) -> None:
    @examples(25)
    @given(_histories(_inserts(_rows), _inserts(_rows), _removals, _resets))
    def whatever_is_removed(history: list[Transaction]) -> None:
        runner.judge(history)

    whatever_is_removed()


@pytest.mark.timeout(300)
def test_equity_that_is_corrected_and_pruned_is_not_called_different(runner: HistoryRunner) -> None:
    @examples(25)
    @given(_histories(_inserts(_rows), _inserts(_rows), _corrections, _removals, _past_resets))
    def whatever_is_done(history: list[Transaction]) -> None:
        runner.runner.run(_audit(runner, history))

    whatever_is_done()


def _equity(equity: int, balance: int | None = None) -> dict[str, Any]:
    amounts = {"equity": Decimal(equity), "balance": balance, "currency": 1, "cash_flow": Decimal(0)}
    return {"user": 0, "second": timedelta(0), **amounts}


def test_a_doubted_row_that_is_corrected_before_any_was_accepted(runner: HistoryRunner) -> None:
    doubted, corrected = InsertEquity((_equity(0),)), UpdateEquity(0, {"equity": Decimal(10_000)})
    runner.judge([Transaction((doubted,)), Transaction((corrected,))])


def test_corrections_do_not_hide_that_a_row_was_removed(runner: HistoryRunner) -> None:
    statements: list[Statement] = [
        InsertEquity((_equity(10_000, balance=10_000),)),
        InsertEquity((_equity(10_000), _equity(10_000))),
        UpdateEquity(1, {"equity": Decimal(10_000)}),
        RemoveEquity(0),
    ]
    runner.runner.run(_audit(runner, [Transaction((each,)) for each in statements]))


async def _audit(runner: HistoryRunner, history: list[Transaction]) -> None:
    writer = await runner.written(history)
    for user_id in writer.names.users[:1]:
        for most_rows in (3, 10_000):
            assert await differences(runner.applier, user_id, most_rows=most_rows) == []

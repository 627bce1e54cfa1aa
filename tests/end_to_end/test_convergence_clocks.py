"""Clocks that are off, unknown values, decorated symbols and ghosts: what is read is what the oracle says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queries.capture import rebuild
from tests.end_to_end.examples import examples
from tests.end_to_end.history_runner import HistoryRunner
from tests.end_to_end.statements import (
    Housekeeping,
    InsertEquity,
    InsertLog,
    InsertRate,
    Statement,
    Transaction,
)

#: A platform's clock less the database's: right, ahead, behind, nearly right, and more than any clock explains.
_CLOCKS: Final = [0, 0, 0, 3 * 3600, -3600, -3600, -2 * 3600, -20, -75, -4, -25 * 3600, -30 * 3600]
_IS_DOUBTED: Final = "SELECT clock_doubted_at IS NOT NULL FROM guardwire.accounts WHERE user_id = $1"
_SPELLINGS: Final = ["@", "@", "@.m", "@-ecn", "@m", "#@", "@X", "@.toolong", "@longer"]


@st.composite
def _phases(draw: st.DrawFn, kind: st.SearchStrategy[Any], most: int) -> list[Any]:
    """Rows of ``kind`` in phases: within a phase the platform's clock is off by the same."""
    drawn: list[Any] = []
    for _ in range(draw(st.integers(1, 4))):
        clock = timedelta(seconds=draw(st.sampled_from(_CLOCKS)))
        drawn += [(clock, each) for each in draw(st.lists(kind, min_size=1, max_size=most))]
    return drawn


_sync = st.fixed_dictionaries(
    {
        "user": st.just(0),
        "ticket": st.sampled_from([1, 1, 1, 2, None, 0]),
        "event_type": st.sampled_from(["sync"] * 8 + ["close", "divergence"]),
        "symbol": st.just("@"),
        "direction": st.just("buy"),
        "volume": st.just(Decimal("0.1")),
        "entry_price": st.sampled_from([Decimal(100), Decimal(100), Decimal(0), Decimal(-40)]),
        "current_price": st.decimals(90, 110, places=2)
        | st.sampled_from([None, Decimal(0), Decimal("-37.63")]),
        "stop_loss": st.sampled_from([None, Decimal(0), Decimal(90)]),
        "matched": st.sampled_from([1, 1, 1, 2, 0]),
        "status": st.sampled_from(["success"] * 5 + ["failed"]),
        "error_message": st.sampled_from([None, None, "no answer"]),
        "took": st.sampled_from([None, 0.042, 7.0]),
    }
)
_trigger = st.fixed_dictionaries(
    {
        "user": st.just(0),
        "ticket": st.none(),
        "event_type": st.just("guard_trigger"),
        "symbol": st.just("@"),
        "divergence_reason": st.just("gap"),
        "entry_price": st.just(Decimal(100)),
        "current_price": st.sampled_from([Decimal(104), Decimal(106), Decimal(112)]),
        "took": st.none(),
    }
)
_symbol_row = st.fixed_dictionaries(
    {
        "user": st.just(0),
        "ticket": st.sampled_from([1, 2, 3]),
        "event_type": st.just("sync"),
        "symbol": st.sampled_from([*_SPELLINGS, "lower"]),
        "direction": st.just("buy"),
        "volume": st.just(Decimal("0.1")),
        "entry_price": st.just(Decimal(100)),
        "current_price": st.decimals(90, 110, places=2) | st.none(),
        "matched": st.just(1),
        "took": st.none(),
    }
)


_equity = st.fixed_dictionaries(
    {
        "user": st.just(0),
        "equity": st.sampled_from(
            [Decimal(10_000), Decimal(9_900), Decimal(8_000), Decimal(7_000), Decimal(1_000)]
        ),
        "balance": st.none(),
        "currency": st.just(1),
        "cash_flow": st.just(Decimal(0)),
    }
)


def _insert(clock: timedelta, row: dict[str, Any]) -> Statement:
    return (InsertEquity if "equity" in row else InsertLog)(({**row, "second": clock},))


def _written(drawn: list[Any], sizes: list[int], housekeeping: list[bool]) -> list[Transaction]:
    """The rows in transactions of these sizes, some followed by housekeeping."""
    history, at = [], 0
    for size, keeps_house in zip(sizes, housekeeping, strict=True):
        statements: list[Statement] = [_insert(clock, row) for clock, row in drawn[at : at + size]]
        at += size
        if statements:
            history.append(Transaction(tuple(statements)))
            history += [Transaction((Housekeeping(),))] * keeps_house
    return history


def _histories(kind: st.SearchStrategy[Any], most: int = 6) -> st.SearchStrategy[list[Transaction]]:
    return st.builds(
        _written,
        _phases(kind, most),
        st.lists(st.integers(1, 4), min_size=12, max_size=12),
        st.lists(st.sampled_from([False, False, True]), min_size=12, max_size=12),
    )


@pytest.fixture
def runner(migrated_url: str) -> Iterator[HistoryRunner]:
    runner = HistoryRunner.open(migrated_url)
    yield runner
    runner.close()


@pytest.mark.timeout(300)
def test_clocks_that_are_ahead_behind_or_step(runner: HistoryRunner) -> None:
    @examples(30)
    @given(_histories(_sync | _sync | _equity | _trigger))
    def whatever_the_clock_shows(history: list[Transaction]) -> None:
        runner.judge(history)

    whatever_the_clock_shows()


@pytest.mark.timeout(300)
def test_accounts_of_such_clocks_that_are_rebuilt_are_as_they_were(runner: HistoryRunner) -> None:
    @examples(25)
    @given(_histories(_sync | _sync | _equity | _trigger))
    def whatever_the_clock_showed(history: list[Transaction]) -> None:
        without_looks = [each for each in history if not isinstance(each.statements[0], Housekeeping)]
        runner.runner.run(_rebuilt(runner, without_looks))

    whatever_the_clock_showed()


async def _rebuilt(runner: HistoryRunner, history: list[Transaction]) -> None:
    writer = await runner.written(history)
    doubted = await runner.applier.fetchval(_IS_DOUBTED, writer.names.users[0])
    for user_id in writer.names.users:
        await rebuild(runner.applier, user_id)
    assert await runner.applier.fetchval(_IS_DOUBTED, writer.names.users[0]) == doubted
    await runner.compare(writer, writer.arrivals, without=("/status/source",))


@pytest.mark.timeout(300)
def test_symbols_in_any_spelling_and_decoration(runner: HistoryRunner) -> None:
    @examples(20)
    @given(_histories(_symbol_row))
    def however_they_are_written(history: list[Transaction]) -> None:
        runner.judge(history)

    however_they_are_written()


@pytest.mark.timeout(300)
def test_rates_of_a_clock_that_is_off(runner: HistoryRunner) -> None:
    rates = st.tuples(st.sampled_from([(0, 1), (0, 1), (1, 0)]), st.decimals("0.1", 9, places=2))

    @examples(20)
    @given(_phases(rates, 6))
    def whatever_the_clock_shows(drawn: list[Any]) -> None:
        row = {
            "user": 0,
            "ticket": 1,
            "event_type": "sync",
            "symbol": 0,
            "direction": "buy",
            "volume": Decimal(1),
        }
        prices = {
            "entry_price": Decimal(100),
            "current_price": Decimal(107),
            "matched": 1,
            "second": timedelta(0),
        }
        money = {"user": 0, "equity": Decimal(10_000), "balance": None, "currency": 1, "second": timedelta(0)}
        history = [Transaction((InsertLog(({**row, **prices},)), InsertEquity((money,))))]
        history += [
            Transaction((InsertRate(base, quote, rate, clock),)) for clock, ((base, quote), rate) in drawn
        ]
        runner.judge(history)

    whatever_the_clock_shows()

"""Rows from before the first node, and rows that are read again, lead to the state that the oracle computes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queries.capture import rebuild
from realtime.audit.history import AlertsEnded, Arrival, EquityRow, History, LogRow, backfill_order
from tests.end_to_end.examples import examples
from tests.end_to_end.histories import histories_before_a_node
from tests.end_to_end.history_runner import HistoryRunner
from tests.end_to_end.history_writer import HistoryWriter
from tests.end_to_end.statements import (
    InsertEquity,
    InsertLog,
    RolledBack,
    Statement,
    Transaction,
    UpdateLog,
    UpdateTicket,
)

#: Facts that only a running node can observe: when levels were crossed, and whether a platform lives.
WATCHED_ONLY = (
    "/status/recent_events",
    "/guards/breaches",
    "/guards/drawdown/liquidation_at",
    "/status/source",
)


def _without_updates(history: list[Transaction]) -> list[Transaction]:
    """Rows as they were inserted. Only the last version of a row that was altered in place can be read again."""
    return [
        replace(transaction, statements=kept)
        for transaction in history
        if (
            kept := tuple(
                each for each in transaction.statements if not isinstance(each, UpdateLog | UpdateTicket)
            )
        )
    ]


def _without_timeless_rows(history: list[Transaction]) -> list[Transaction]:
    """Rows whose time can be read. Without a time and without an arrival there is no order to find."""
    return [
        replace(transaction, statements=tuple(map(_timed, transaction.statements))) for transaction in history
    ]


def _timed(statement: Statement) -> Statement:
    match statement:
        case InsertLog(rows) | InsertEquity(rows):
            return replace(statement, rows=tuple(row for row in rows if isinstance(row["second"], float)))
        case RolledBack(statements):
            return RolledBack(tuple(map(_timed, statements)))
    return statement


inserted_only: st.SearchStrategy[list[Transaction]] = histories_before_a_node.map(_without_updates)


@pytest.mark.timeout(300)
def test_an_account_that_is_rebuilt_is_as_it_was(history_runner: HistoryRunner) -> None:
    @examples(15)
    @given(inserted_only)
    def whatever_was_committed(history: list[Transaction]) -> None:
        history_runner.runner.run(_rebuild(history_runner, history))

    whatever_was_committed()


async def _rebuild(history_runner: HistoryRunner, history: list[Transaction]) -> None:
    writer = await history_runner.written(history)
    await _read_anew(history_runner, writer)
    # The rows are half an hour old, so a node that reads them now reports a silent platform.
    await history_runner.compare(writer, writer.arrivals, without=("/status/source",))


@pytest.mark.timeout(300)
def test_an_account_whose_history_nobody_watched_is_read_by_the_times_of_its_rows(
    history_runner: HistoryRunner,
) -> None:
    @examples(15)
    @given(inserted_only.map(_without_timeless_rows))
    def whatever_was_committed(history: list[Transaction]) -> None:
        history_runner.runner.run(_backfill(history_runner, history))

    history_runner.runner.run(_look_away(history_runner))
    whatever_was_committed()


async def _look_away(history_runner: HistoryRunner) -> None:
    for table in ("reconciliation_logs", "equity_snapshots"):
        await history_runner.connections[0].execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")


async def _backfill(history_runner: HistoryRunner, history: list[Transaction]) -> None:
    writer = await history_runner.written(history)
    found = _as_found(writer, datetime.now(UTC))
    await _read_anew(history_runner, writer)
    await history_runner.compare(writer, found, without=WATCHED_ONLY)


def _as_found(writer: HistoryWriter, at: datetime) -> History:
    """The same with rows in the order of their times, after everything that is no row of an account.

    A row that nobody saw arrive arrived at its own time, and the reading ages the equity.
    """
    rows = [each.change for each in writer.arrivals if isinstance(each.change, LogRow | EquityRow)]
    others = [each for each in writer.arrivals if not isinstance(each.change, LogRow | EquityRow)]
    found = [replace(each, at=each.time) for each in backfill_order(rows, at)]
    found += [Arrival(AlertsEnded(user_id), len(rows) + 1, at) for user_id in writer.names.users]
    return [*others, *(replace(each, order=each.order + 1_000_000) for each in found)]


async def _read_anew(history_runner: HistoryRunner, writer: HistoryWriter) -> None:
    for user_id in writer.names.users:
        await rebuild(history_runner.applier, user_id)

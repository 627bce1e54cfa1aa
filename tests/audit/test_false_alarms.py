"""No account is called different while nobody alters derived rows, for any history that a platform commits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queries.capture import housekeep, rebuild
from tests.audit.auditing import differences
from tests.end_to_end.examples import examples
from tests.end_to_end.histories import histories
from tests.end_to_end.history_runner import HistoryRunner
from tests.end_to_end.history_writer import HistoryWriter
from tests.end_to_end.statements import Transaction

#: Changes the record as if the capture had run for days, and kept one hour of arrivals.
FORGET = """
UPDATE guardwire.backfill SET started_at = now() - interval '3 days';
UPDATE guardwire.configuration SET arrival_hours = 1;
DELETE FROM guardwire.arrivals WHERE source = 'l';
"""
#: Removes the rows of some users whose place has one of these remainders by 16, counted user by user and as applied.
REMOVE = """
WITH gone AS (
    SELECT o.log_id
    FROM (SELECT a.log_id, row_number() OVER (ORDER BY array_position($1, min(a.user_id::text)::uuid),
                                                    min(a.revision), min(a.ordinal)) AS place
          FROM guardwire.arrivals AS a WHERE a.user_id = ANY ($1) GROUP BY a.log_id) AS o
    WHERE o.place % 16 = ANY ($2::integer[])
), log AS (DELETE FROM reconciliation_logs WHERE id IN (SELECT g.log_id FROM gone AS g))
DELETE FROM equity_snapshots WHERE id IN (SELECT g.log_id FROM gone AS g)
"""
MOST_ROWS = st.sampled_from([3, 12, 10_000])


@pytest.mark.timeout(300)
def test_a_history_that_was_applied_is_not_called_different(history_runner: HistoryRunner) -> None:
    @examples(15)
    @given(histories, MOST_ROWS)
    def holds_for(history: list[Transaction], most_rows: int) -> None:
        history_runner.runner.run(_audit(history_runner, history, most_rows))

    holds_for()


@pytest.mark.timeout(300)
def test_a_history_whose_rows_wait_is_not_called_different(history_runner: HistoryRunner) -> None:
    @examples(10)
    @given(histories, MOST_ROWS)
    def holds_for(history: list[Transaction], most_rows: int) -> None:
        history_runner.runner.run(_audit_while_rows_wait(history_runner, history, most_rows))

    holds_for()


@pytest.mark.timeout(300)
def test_a_history_of_which_rows_were_removed_is_not_called_different(history_runner: HistoryRunner) -> None:
    @examples(15)
    @given(histories, MOST_ROWS, st.sets(st.integers(0, 15), min_size=1))
    def holds_for(history: list[Transaction], most_rows: int, removed: set[int]) -> None:
        history_runner.runner.run(_remove(history_runner, history, most_rows, removed))

    holds_for()


@pytest.mark.timeout(300)
def test_a_rebuilt_history_and_one_without_arrivals_are_not_called_different(
    history_runner: HistoryRunner,
) -> None:
    @examples(10)
    @given(histories, st.booleans())
    def holds_for(history: list[Transaction], rebuilt: bool) -> None:
        history_runner.runner.run(_forget(history_runner, history, rebuilt=rebuilt))

    holds_for()


async def _audit(history_runner: HistoryRunner, history: list[Transaction], most_rows: int) -> None:
    writer = await history_runner.written(history)
    await _agree(history_runner, writer, most_rows)


async def _audit_while_rows_wait(
    history_runner: HistoryRunner, history: list[Transaction], most_rows: int
) -> None:
    writer = history_runner.writer()
    try:
        await writer.begin()
        for transaction in history:
            await writer.perform(transaction)
            if await history_runner.applier.fetchval("SELECT EXISTS (SELECT FROM guardwire.inbox)"):
                await _agree(history_runner, writer, most_rows)
        await writer.finish()
    finally:
        await writer.abandon()
    await _agree(history_runner, writer, most_rows)


async def _remove(
    history_runner: HistoryRunner, history: list[Transaction], most_rows: int, removed: set[int]
) -> None:
    writer = await history_runner.written(history)
    await history_runner.applier.execute(REMOVE, list(writer.names.users), sorted(removed))
    await _agree(history_runner, writer, most_rows)
    await _rebuild(history_runner, writer)
    await _agree(history_runner, writer, most_rows)


async def _forget(history_runner: HistoryRunner, history: list[Transaction], *, rebuilt: bool) -> None:
    writer = await history_runner.written(history)
    if not rebuilt:
        await history_runner.applier.execute(FORGET)
        await _agree(history_runner, writer, 10_000)
    await _rebuild(history_runner, writer)
    await _agree(history_runner, writer, 10_000)


async def _rebuild(history_runner: HistoryRunner, writer: HistoryWriter) -> None:
    for user_id in writer.names.users:
        await rebuild(history_runner.applier, user_id)


async def _agree(history_runner: HistoryRunner, writer: HistoryWriter, most_rows: int) -> None:
    # Nodes end alerts whose window has passed every few seconds; here no node runs.
    await housekeep(history_runner.applier)
    for user_id in writer.names.users:
        found = await differences(history_runner.applier, user_id, most_rows=most_rows)
        assert not found, "\n".join(found)

"""Whatever a platform commits: an account that nobody tampered with is never called different."""

from __future__ import annotations

from collections.abc import Iterator

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

#: As if the capture had been at work for days, and remembered one hour of arrivals.
FORGOTTEN = """
UPDATE guardwire.backfill SET started_at = now() - interval '3 days';
UPDATE guardwire.configuration SET arrival_hours = 1;
DELETE FROM guardwire.arrivals WHERE source = 'l';
"""


@pytest.fixture
def runner(migrated_url: str) -> Iterator[HistoryRunner]:
    runner = HistoryRunner.open(migrated_url)
    yield runner
    runner.close()


@pytest.mark.timeout(300)
def test_nothing_that_was_committed_and_captured_is_called_different(runner: HistoryRunner) -> None:
    @examples(40)
    @given(histories, st.sampled_from([3, 12, 10_000]))
    def whatever_is_committed(history: list[Transaction], most_rows: int) -> None:
        runner.runner.run(_audit(runner, history, most_rows))

    whatever_is_committed()


@pytest.mark.timeout(300)
def test_nothing_is_called_different_after_a_rebuild_and_after_arrivals_were_forgotten(
    runner: HistoryRunner,
) -> None:
    @examples(25)
    @given(histories, st.booleans())
    def whatever_is_committed(history: list[Transaction], rebuilt: bool) -> None:
        runner.runner.run(_forget(runner, history, rebuilt=rebuilt))

    whatever_is_committed()


async def _audit(runner: HistoryRunner, history: list[Transaction], most_rows: int) -> None:
    writer = await runner.written(history)
    await _agree(runner, writer, most_rows)


async def _forget(runner: HistoryRunner, history: list[Transaction], *, rebuilt: bool) -> None:
    writer = await runner.written(history)
    if not rebuilt:
        await runner.applier.execute(FORGOTTEN)
        await _agree(runner, writer, 10_000)
    for user_id in writer.names.users:
        await rebuild(runner.applier, user_id)
    await _agree(runner, writer, 10_000)


async def _agree(runner: HistoryRunner, writer: HistoryWriter, most_rows: int) -> None:
    # Nodes end alerts whose window has passed every few seconds; here nobody does.
    await housekeep(runner.applier)
    for user_id in writer.names.users:
        found = await differences(runner.applier, user_id, most_rows=most_rows)
        assert not found, "\n".join(found)

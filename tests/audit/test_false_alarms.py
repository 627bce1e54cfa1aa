"""Whatever a platform commits: an account that nobody tampered with is never called different."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queries.capture import housekeep, rebuild
from tests.audit.auditing import differences
from tests.end_to_end.court import Court
from tests.end_to_end.examples import examples
from tests.end_to_end.histories import histories
from tests.end_to_end.scribe import Scribe
from tests.end_to_end.statements import Transaction

#: As if the capture had been at work for days, and remembered one hour of arrivals.
FORGOTTEN = """
UPDATE guardwire.backfill SET started_at = now() - interval '3 days';
UPDATE guardwire.configuration SET arrival_hours = 1;
DELETE FROM guardwire.arrivals WHERE source = 'l';
"""


@pytest.fixture
def court(migrated_url: str) -> Iterator[Court]:
    court = Court.open(migrated_url)
    yield court
    court.close()


@pytest.mark.timeout(300)
def test_nothing_that_was_committed_and_captured_is_called_different(court: Court) -> None:
    @examples(40)
    @given(histories, st.sampled_from([3, 12, 10_000]))
    def whatever_is_committed(history: list[Transaction], most_rows: int) -> None:
        court.runner.run(_audit(court, history, most_rows))

    whatever_is_committed()


@pytest.mark.timeout(300)
def test_nothing_is_called_different_after_a_rebuild_and_after_arrivals_were_forgotten(court: Court) -> None:
    @examples(25)
    @given(histories, st.booleans())
    def whatever_is_committed(history: list[Transaction], rebuilt: bool) -> None:
        court.runner.run(_forget(court, history, rebuilt=rebuilt))

    whatever_is_committed()


async def _audit(court: Court, history: list[Transaction], most_rows: int) -> None:
    scribe = await _written(court, history)
    await _agree(court, scribe, most_rows)


async def _forget(court: Court, history: list[Transaction], *, rebuilt: bool) -> None:
    scribe = await _written(court, history)
    if not rebuilt:
        await court.connections[0].execute(FORGOTTEN)
        await _agree(court, scribe, 10_000)
    for user_id in scribe.names.users:
        await rebuild(court.connections[0], user_id)
    await _agree(court, scribe, 10_000)


async def _written(court: Court, history: list[Transaction]) -> Scribe:
    scribe = Scribe(court.connections)
    try:
        await scribe.write(history)
    finally:
        await scribe.abandon()
    return scribe


async def _agree(court: Court, scribe: Scribe, most_rows: int) -> None:
    # Nodes end alerts whose window has passed every few seconds; here nobody does.
    await housekeep(court.connections[0])
    for user_id in scribe.names.users:
        found = await differences(court.connections[0], user_id, most_rows=most_rows)
        assert not found, "\n".join(found)

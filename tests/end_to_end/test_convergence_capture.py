"""Whatever a platform commits, in whatever order: what the live queries read is what the oracle says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import asyncpg
import pytest
from hypothesis import given

from queries.channels import LIVE_QUERIES
from tests.end_to_end.agreement import disagreements
from tests.end_to_end.examples import examples
from tests.end_to_end.histories import histories
from tests.end_to_end.scribe import Scribe
from tests.end_to_end.statements import Transaction
from tests.oracle.state import Oracle


@dataclass
class Court:
    """Writes histories to one database and compares what it shows with the oracle."""

    runner: asyncio.Runner
    connections: list[Any]

    @classmethod
    def open(cls, database_url: str) -> Self:
        runner = asyncio.Runner()

        async def connect() -> list[Any]:
            return [await asyncpg.connect(database_url) for _ in range(4)]

        return cls(runner, runner.run(connect()))

    def close(self) -> None:
        async def close() -> None:
            for connection in self.connections:
                await connection.close()

        self.runner.run(close())
        self.runner.close()

    def judge(self, history: list[Transaction]) -> None:
        """Write ``history`` and fail with every difference."""
        self.runner.run(self._judge(history))

    async def _judge(self, history: list[Transaction]) -> None:
        scribe = Scribe(self.connections)
        try:
            await scribe.write(history)
            evaluations = await LIVE_QUERIES.evaluate(self.connections[0], scribe.names.users)
        finally:
            await scribe.abandon()
        for evaluation in evaluations:
            oracle = Oracle(evaluation.user_id, scribe.names.first_instruments())
            expected = oracle.state(scribe.arrivals)
            found = disagreements(expected, evaluation.state, since=scribe.names.begun)
            assert not found, "\n".join(found)


@pytest.fixture
def court(migrated_url: str) -> Iterator[Court]:
    court = Court.open(migrated_url)
    yield court
    court.close()


def test_the_evaluated_state_is_the_oracles(court: Court) -> None:
    @examples(120)
    @given(histories)
    def whatever_is_committed(history: list[Transaction]) -> None:
        court.judge(history)

    whatever_is_committed()

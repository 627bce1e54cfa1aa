"""Where histories are judged: written to a database, read by the live queries, compared with the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import asyncpg

from queries.channels import LIVE_QUERIES
from realtime.audit.history import History
from realtime.audit.state import Oracle
from tests.end_to_end.agreement import disagreements
from tests.end_to_end.scribe import Scribe
from tests.end_to_end.statements import Transaction


@dataclass
class Court:
    """Writes histories to one database over several connections, in a loop of its own."""

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

    def judge(self, history: Sequence[Transaction]) -> None:
        """Write ``history`` and fail with every difference."""
        self.runner.run(self._judge(history))

    async def _judge(self, history: Sequence[Transaction]) -> None:
        scribe = Scribe(self.connections)
        try:
            await scribe.write(history)
        finally:
            await scribe.abandon()
        await self.compare(scribe, scribe.arrivals)
        notes = await self.connections[0].fetch("SELECT * FROM guardwire.capture_notes")
        assert not notes, f"the capture failed: {notes}"

    async def compare(self, scribe: Scribe, history: History, *, without: Sequence[str] = ()) -> None:
        """Fail where what is read differs from the oracle's word; but not at paths with ``without``."""
        for evaluation in await LIVE_QUERIES.evaluate(self.connections[0], scribe.names.users):
            oracle = Oracle(evaluation.user_id, scribe.names.first_instruments())
            found = disagreements(oracle.state(history), evaluation.state, since=scribe.names.begun)
            found = [line for line in found if not any(part in line for part in without)]
            assert not found, "\n".join(found)

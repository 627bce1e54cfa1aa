"""Runs drawn histories: writes them to a database, reads the live queries, and compares with the oracle."""

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
from tests.end_to_end.history_writer import HistoryWriter
from tests.end_to_end.statements import Transaction


@dataclass
class HistoryRunner:
    """Writes histories to one database over several connections, in an event loop of its own.

    ``applier`` is the connection that applies the inbox, keeps house and reads.
    """

    runner: asyncio.Runner
    connections: list[Any]
    applier: Any

    @classmethod
    def open(cls, database_url: str) -> Self:
        runner = asyncio.Runner()

        async def connect() -> list[Any]:
            return [await asyncpg.connect(database_url) for _ in range(5)]

        *connections, applier = runner.run(connect())
        return cls(runner, connections, applier)

    def close(self) -> None:
        async def close() -> None:
            for connection in (*self.connections, self.applier):
                await connection.close()

        self.runner.run(close())
        self.runner.close()

    def judge(self, history: Sequence[Transaction]) -> None:
        """Write ``history``, and fail with every difference."""
        self.runner.run(self._judge(history))

    def writer(self) -> HistoryWriter:
        """Write one history here."""
        return HistoryWriter(self.connections, self.applier)

    async def written(self, history: Sequence[Transaction]) -> HistoryWriter:
        """Write and apply all of ``history``; returns its writer."""
        writer = self.writer()
        try:
            await writer.write(history)
        finally:
            await writer.abandon()
        return writer

    async def _judge(self, history: Sequence[Transaction]) -> None:
        writer = await self.written(history)
        await self.compare(writer, writer.arrivals)
        rows = await self.applier.fetch("SELECT * FROM guardwire.set_aside")
        assert not rows, f"rows could not be applied: {rows}"

    async def compare(self, writer: HistoryWriter, history: History, *, without: Sequence[str] = ()) -> None:
        """Fail when a read differs from the oracle, but not at paths that contain ``without``."""
        for evaluation in await LIVE_QUERIES.evaluate(self.applier, writer.names.users):
            oracle = Oracle(evaluation.user_id, writer.names.first_instruments())
            found = disagreements(oracle.state(history), evaluation.state, since=writer.names.begun)
            found = [line for line in found if not any(part in line for part in without)]
            assert not found, "\n".join(found)

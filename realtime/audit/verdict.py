"""Judges one account: its record and its state by the live queries are read in one snapshot of the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from realtime.audit.difference import Difference, Findings
from realtime.audit.judgement import judge
from realtime.audit.record import Rows, read_record
from realtime.audit.sources import Sources

#: Reads the state of one account by the live queries, on one connection.
Shown = Callable[[Any, UUID], Awaitable[Mapping[str, Any]]]

#: One snapshot for both, and no way to change anything; an index is used wherever there is one.
_BEGIN: Final = """
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL jit = off; SET LOCAL enable_seqscan = off; SET LOCAL statement_timeout = {milliseconds};
"""


@dataclass(frozen=True)
class Verdict:
    """Findings of one audit of one account. Nothing was compared where ``ready`` is False."""

    user_id: UUID
    ready: bool
    #: Rows of the log and of equity that were read.
    rows: int
    #: Older rows were not read, and differences that they may explain are doubts.
    partial: bool
    #: Rows on record that no trigger copied.
    passed_by: int
    differences: list[Difference] = field(default_factory=list)
    doubts: list[Difference] = field(default_factory=list)


@dataclass(frozen=True)
class Evidence:
    """Rows to judge an account by; ``shown`` is its state by the live queries in the same snapshot."""

    rows: Rows
    shown: Mapping[str, Any]

    def judge(self) -> Verdict:
        """Reduce the record and compare: pure, and as long as the record."""
        record = self.rows.in_order()
        found = judge(record, self.shown) if record.ready else Findings()
        return Verdict(
            user_id=record.user_id,
            ready=record.ready,
            rows=record.rows,
            partial=record.log_begins is not None or record.equity_begins is not None,
            passed_by=record.passed_by,
            differences=found.differences,
            doubts=found.doubts,
        )


async def read_evidence(
    connection: Any,
    sources: Sources,
    user_id: UUID,
    *,
    shown: Shown,
    most_rows: int,
    most_rates: int,
    timeout_seconds: float,
) -> Evidence:
    """Read the rows that judge an account, its ``most_rows`` newest of each table, and its state.

    ``connection`` (asyncpg's) is outside of a transaction, and is left so. A statement may take
    ``timeout_seconds``.
    """
    await connection.execute(_BEGIN.format(milliseconds=int(timeout_seconds * 1000)))
    try:
        rows = await read_record(connection, sources, user_id, most_rows=most_rows, most_rates=most_rates)
        return Evidence(rows, await shown(connection, user_id) if rows.record.ready else {})
    finally:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")

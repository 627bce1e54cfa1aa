"""For all rows: the state from deltas equals the state of a read, field by field."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given

from guardwire.patch import diff
from queries.channels import LIVE_QUERIES
from queries.delta import parse_deltas, state_after
from tests.end_to_end.examples import examples
from tests.end_to_end.histories import histories
from tests.end_to_end.history_runner import HistoryRunner
from tests.end_to_end.history_writer import HistoryWriter
from tests.end_to_end.statements import InsertEquity, InsertLog, Transaction


class Follower:
    """Holds the state of each account as it was read, and continues by deltas."""

    def __init__(self, connection: Any, writer: HistoryWriter) -> None:
        self._connection = connection
        self._writer = writer
        self._held: dict[UUID, Any] = {}
        self.followed = 0

    async def compare(self) -> None:
        """Follow all deltas so far, and fail when a read shows anything else."""
        deltas = list(parse_deltas(self._writer.deltas))
        self._writer.deltas.clear()
        found = {
            each.user_id: each
            for each in await LIVE_QUERIES.evaluate(self._connection, self._writer.names.users)
        }
        for delta in deltas:
            held = self._held.get(UUID(delta.user))
            if held is None or held.revision != delta.base:
                continue
            after = state_after(held.state, delta)
            assert after is not None, delta
            state, patch = after
            assert patch == diff(held.state, state)
            self._held[held.user_id] = held._replace(revision=delta.revision, state=state)
            self.followed += 1
        for user, evaluation in found.items():
            held = self._held.get(user)
            if held is not None and held.revision == evaluation.revision:
                assert held.state == evaluation.state
        self._held = found


@pytest.mark.timeout(300)
def test_the_state_that_deltas_lead_to_is_the_state_that_a_read_shows(history_runner: HistoryRunner) -> None:
    followed = 0

    @examples(20)
    @given(histories)
    def whatever_was_committed(history: list[Transaction]) -> None:
        nonlocal followed
        followed += history_runner.runner.run(_follow(history_runner, history))

    whatever_was_committed()
    assert followed > 0


def _plain(turn: int) -> Transaction:
    """The most frequent transaction of platforms: two syncs of open positions at other prices."""
    row = {
        "user": 0, "event_type": "sync", "close_reason": None, "symbol": 0, "direction": "buy",
        "volume": Decimal("0.1"), "entry_price": Decimal(100), "take_profit": None, "stop_loss": None,
        "matched": 1, "divergence_reason": None, "error_message": None, "status": "success", "pnl_gbp": None,
        "second": 60.0 + turn, "took": 0.042 if turn % 3 else None, "current_price": 100 + Decimal(turn) / 7,
    }  # fmt: skip
    rows = ({**row, "ticket": 1}, {**row, "ticket": 2})
    return Transaction((InsertLog(rows[: 1 + turn % 2]),))


def _loop(turn: int) -> Transaction:
    """A reconciliation loop: syncs and the equity of an account, whose level does not change."""
    equity = {
        "user": 0, "equity": Decimal(10_000) + Decimal(turn) / 3, "balance": Decimal(10_000), "currency": 1,
        "cash_flow": Decimal(0), "second": 60.0 + turn,
    }  # fmt: skip
    return Transaction((*_plain(turn).statements, InsertEquity((equity,))))


async def _follow(history_runner: HistoryRunner, history: list[Transaction]) -> int:
    writer = history_runner.writer()
    follower = Follower(history_runner.applier, writer)
    try:
        await writer.begin()
        for turn, transaction in enumerate(history):
            for each in (transaction, _plain(3 * turn), _loop(3 * turn + 1), _plain(3 * turn + 2)):
                await writer.perform(each)
                await follower.compare()
        await writer.finish()
        await follower.compare()
    finally:
        await writer.abandon()
    return follower.followed

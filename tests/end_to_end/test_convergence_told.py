"""Whatever was written: who follows what commits told holds what a read shows, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import given

from queries.channels import LIVE_QUERIES
from queries.told import state_after
from realtime.patch import diff
from tests.end_to_end.court import Court
from tests.end_to_end.examples import examples
from tests.end_to_end.histories import histories
from tests.end_to_end.scribe import Scribe
from tests.end_to_end.statements import InsertLog, Transaction
from tests.queries.ears import Ears


class Follower:
    """Holds what was read of each account, and goes on from there as commits tell."""

    def __init__(self, connection: Any, ears: Ears) -> None:
        self._connection = connection
        self._ears = ears
        self._held: dict[UUID, Any] = {}
        self.followed = 0

    async def compare(self, users: Sequence[UUID]) -> None:
        """Follow all that was committed, and fail where a read shows anything else."""
        steps = self._ears.told_of(await self._ears.all(self._connection))
        found = {each.user_id: each for each in await LIVE_QUERIES.evaluate(self._connection, users)}
        for told in steps:
            held = self._held.get(UUID(told.user))
            if held is None or held.revision != told.base:
                continue
            after = state_after(held.state, told)
            assert after is not None, told
            state, patch = after
            assert patch == diff(held.state, state)
            self._held[held.user_id] = held._replace(revision=told.revision, state=state)
            self.followed += 1
        for user, evaluation in found.items():
            held = self._held.get(user)
            if held is not None and held.revision == evaluation.revision:
                assert held.state == evaluation.state
        self._held = found


@pytest.fixture
def court(migrated_url: str) -> Iterator[Court]:
    court = Court.open(migrated_url)
    yield court
    court.close()


@pytest.mark.timeout(300)
def test_whoever_follows_what_is_told_holds_what_a_read_shows(court: Court, migrated_url: str) -> None:
    # The court's own may be amid a transaction.
    listening, reading = (court.runner.run(asyncpg.connect(migrated_url)) for _ in range(2))
    ears = court.runner.run(Ears.open(listening))
    followed = 0

    @examples(40)
    @given(histories)
    def whatever_was_committed(history: list[Transaction]) -> None:
        nonlocal followed
        followed += court.runner.run(_follow(court, Follower(reading, ears), history))

    whatever_was_committed()
    for connection in (listening, reading):
        court.runner.run(connection.close())
    assert followed > 0


def _plain(turn: int) -> Transaction:
    """What platforms write most: two syncs of what is open already, at other prices."""
    row = {
        "user": 0, "event_type": "sync", "close_reason": None, "symbol": 0, "direction": "buy",
        "volume": Decimal("0.1"), "entry_price": Decimal(100), "take_profit": None, "stop_loss": None,
        "matched": 1, "divergence_reason": None, "error_message": None, "status": "success", "pnl_gbp": None,
        "second": 60.0 + turn, "took": 0.042 if turn % 3 else None, "current_price": 100 + Decimal(turn) / 7,
    }  # fmt: skip
    rows = ({**row, "ticket": 1}, {**row, "ticket": 2})
    return Transaction((InsertLog(rows[: 1 + turn % 2]),))


async def _follow(court: Court, follower: Follower, history: list[Transaction]) -> int:
    scribe = Scribe(court.connections)
    try:
        await scribe.begin()
        for turn, transaction in enumerate(history):
            for each in (transaction, _plain(3 * turn), _plain(3 * turn + 1), _plain(3 * turn + 2)):
                await scribe.perform(each)
                await follower.compare(scribe.names.users)
        await scribe.finish()
        await follower.compare(scribe.names.users)
    finally:
        await scribe.abandon()
    return follower.followed

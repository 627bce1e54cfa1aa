"""For everything that a platform commits, in any order: every client ends with the state of the oracle.

Through the capture, the feed, Redis, a real server and real sockets: a client from the start, one that came in the
middle, one that unsubscribes and subscribes channels, the state over HTTP, and the documents of REST.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import given

from realtime.audit.state import Oracle
from tests.end_to_end.agreement import disagreements
from tests.end_to_end.documents import read_documents, without_what_only_the_stream_tells
from tests.end_to_end.examples import examples
from tests.end_to_end.histories import histories_before_a_node
from tests.end_to_end.history_writer import HistoryWriter
from tests.end_to_end.mirror import Mirror, mirror
from tests.end_to_end.node import Node, node
from tests.end_to_end.statements import (
    USERS,
    InsertEquity,
    InsertLog,
    RolledBack,
    SetLimits,
    Statement,
    Transaction,
)

#: No position is unconfirmed within a history: when it would be hangs on the time of the node's housekeeping.
_NEVER_OVERDUE = {"sync_overdue_seconds": 2_678_400}


@dataclass
class Stage:
    """A server, a platform that writes to its database, and the event loop of both."""

    runner: asyncio.Runner
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    node: Node = field(init=False)
    connections: list[Any] = field(default_factory=list)

    async def set_up(self, database_url: str, redis_url: str) -> None:
        self.node = await self.stack.enter_async_context(node(database_url, redis_url, heartbeat_seconds=0.2))
        for _ in range(5):
            connection = await asyncpg.connect(database_url)
            self.stack.push_async_callback(connection.close)
            self.connections.append(connection)

    async def play(self, history: list[Transaction]) -> None:
        """Write ``history`` while all kinds of clients watch, and fail with every difference that one of them sees."""
        writer = HistoryWriter(self.connections[:4], self.connections[4], node_applies=True)
        users = writer.names.users
        try:
            async with contextlib.AsyncExitStack() as audience:
                early = [await self._enter(audience, user_id) for user_id in users]
                fickle = [await self._enter(audience, user_id) for user_id in users]
                middle = len(history) // 2
                await writer.begin()
                for transaction in history[:middle]:
                    await writer.perform(transaction)
                for account in fickle:
                    await account.send({"type": "unsubscribe", "channels": ["positions", "guards"]})
                late = [await self._enter(audience, user_id) for user_id in users]
                for transaction in history[middle:]:
                    await writer.perform(transaction)
                await writer.finish()
                for account in fickle:
                    await account.send({"type": "subscribe", "channels": ["positions", "guards"]})
                await self._settle(users, [early, fickle, late])
                for accounts in zip(users, early, fickle, late, strict=True):
                    await self._compare(writer, *accounts)
        finally:
            await writer.abandon()

    async def _enter(self, audience: contextlib.AsyncExitStack, user_id: UUID) -> Mirror:
        return await audience.enter_async_context(mirror(self.node.url, self.node.token(user_id)))

    async def _settle(self, users: tuple[UUID, ...], everybody: list[list[Mirror]]) -> None:
        revisions = dict(await self.connections[4].fetch("SELECT user_id, revision FROM guardwire.accounts"))
        for group in everybody:
            for user_id, account in zip(users, group, strict=True):
                await account.until_revision(revisions.get(user_id, 0))
                await account.until(lambda account=account: len(account.state) == 3)  # type: ignore[misc]

    async def _compare(self, writer: HistoryWriter, user_id: UUID, *accounts: Mirror) -> None:
        since = writer.names.begun
        expected = Oracle(user_id, writer.names.first_instruments()).state(writer.arrivals)
        for account in accounts:
            found = disagreements(expected, account.state, since=since)
            assert not found, "\n".join(found)
            assert account.resyncs == 0
        frame = await self.node.get("/api/v1/state", user_id)
        assert (frame["revision"], frame["state"]) == (accounts[0].revision, accounts[0].state)
        documents = await read_documents(self.node, user_id)
        found = disagreements(without_what_only_the_stream_tells(expected), documents, since=since)
        assert not found, "\n".join(found)


def _with_patience(history: list[Transaction]) -> list[Transaction]:
    """The same with limits by which no row is far behind another, and without rows of decades ago."""
    first = Transaction(tuple(SetLimits(user, _NEVER_OVERDUE) for user in range(USERS)))
    return [
        first,
        *(replace(each, statements=tuple(map(_patient, each.statements))) for each in history),
    ]


def _patient(statement: Statement) -> Statement:
    match statement:
        case SetLimits(columns=columns):
            return replace(statement, columns={**(columns or {}), **_NEVER_OVERDUE})
        case InsertLog(rows) | InsertEquity(rows):
            recent = ({**row, "second": 0.0} if row["second"] == "old" else row for row in rows)
            return replace(statement, rows=tuple(recent))
        case RolledBack(statements):
            return RolledBack(tuple(map(_patient, statements)))
    return statement


@pytest.fixture
def stage(migrated_url: str, redis_url: str) -> Iterator[Stage]:
    with asyncio.Runner() as runner:
        stage = Stage(runner)
        runner.run(stage.set_up(migrated_url, redis_url))
        try:
            yield stage
        finally:
            runner.run(stage.stack.aclose())


@pytest.mark.timeout(300)
def test_everybody_who_looks_ends_up_with_what_the_oracle_says(stage: Stage) -> None:
    @examples(15)
    @given(histories_before_a_node.map(_with_patience))
    def whatever_is_committed(history: list[Transaction]) -> None:
        stage.runner.run(stage.play(history))

    whatever_is_committed()

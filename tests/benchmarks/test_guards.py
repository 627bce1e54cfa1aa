"""Figures that do not depend on the machine's speed: numbers of statements, bytes, and shapes of plans."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Iterator
from statistics import median
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest
from websockets.server import ServerProtocol

from auth.identity import Identity
from queries.channels import LIVE_QUERIES
from realtime.audit.sources import Sources
from realtime.audit.verdict import read_evidence
from realtime.delivery.sent_state import SentState
from realtime.delivery.server.handover import HandoverProtocol
from realtime.delivery.stream import Stream, Timing
from realtime.delivery.watched_account import WatchedAccount
from realtime.delivery.websocket.connection import Allowance, Socket
from realtime.metrics import METRICS
from realtime.snapshot import Snapshot
from tests.benchmarks.figure import Figure
from tests.benchmarks.platform import MOVE, MOVE_ALL, make_accounts, make_long_account, prices
from tests.benchmarks.postgres import run_seconds
from tests.benchmarks.report import table
from tests.benchmarks.sockets import Sockets
from tests.benchmarks.statements import Statements
from tests.end_to_end.node import node
from tests.inbox import apply_batch

T = TypeVar("T")

_HISTORY_TABLES: Final = {"reconciliation_logs", "equity_snapshots", "fx_rates", "arrivals"}
_IDLE_SECONDS: Final = 9
#: The applier's node runs a sweep a second, housekeeping every other second; for the applier about once a second a look
#: at the inbox and a renewal of its lease, and its figures every five.
_IDLE_STATEMENTS: Final = 4
_STARTED_SECONDS: Final = 20.0
_ROWS_OF_TRANSACTION: Final = 40
#: The number of revisions at which the last rows of each account were applied.
_REVISIONS_OF_LAST_ROWS: Final = """
SELECT count(DISTINCT a.revision) AS revisions
FROM (SELECT o.*, row_number() OVER (PARTITION BY o.user_id ORDER BY o.revision DESC, o.ordinal DESC) AS place
      FROM guardwire.arrivals AS o WHERE o.user_id = ANY ($1)) AS a
WHERE a.place <= $2 GROUP BY a.user_id
"""
_SOME_ACCOUNTS: Final = 80
_MANY_ACCOUNTS: Final = 800


@pytest.fixture
async def connection(migrated_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(migrated_url)
    yield connection
    await connection.close()


@pytest.fixture
def statements() -> Iterator[Statements]:
    """The statements on connections that this test makes from now on."""
    statements = Statements()
    statements.watch()
    yield statements
    statements.leave()


async def test_any_number_of_accounts_is_evaluated_by_one_statement(
    statements: Statements, connection: asyncpg.Connection
) -> None:
    users = await make_accounts(connection, 30)
    # On the first use of a connection the driver also reads the types of the columns.
    await LIVE_QUERIES.evaluate(connection, users[:1])
    before = await statements.told()
    found = await LIVE_QUERIES.evaluate(connection, users)
    assert {evaluation.user_id for evaluation in found} == set(users)
    assert all(len(evaluation.state["positions"]["open"]) == 10 for evaluation in found)
    assert await statements.told() - before == 1


async def test_a_row_of_many_accounts_costs_the_applier_no_more_than_a_row_of_some(
    connection: asyncpg.Connection,
) -> None:
    users = await make_accounts(connection, _MANY_ACCOUNTS)
    some, many = [], []
    for _ in range(3):
        some.append(await _applying_seconds(connection, users[:_SOME_ACCOUNTS]) / _SOME_ACCOUNTS)
        many.append(await _applying_seconds(connection, users) / _MANY_ACCOUNTS)
    # With nested loops, a row would cost more with more accounts.
    assert min(many) < 1.5 * min(some)


async def test_a_batch_stays_small_when_many_accounts_wait_with_long_transactions(
    connection: asyncpg.Connection,
) -> None:
    users = await make_accounts(connection, 60)
    fresh, *others = users
    async with connection.transaction():
        for _ in range(_ROWS_OF_TRANSACTION):
            await connection.execute(MOVE_ALL, others, next(prices))
    await connection.execute(MOVE, fresh, 1001, next(prices))
    batches = [await apply_batch(connection, batch_rows=100)]
    assert fresh in batches[0]["accounts"]
    while batches[-1]["applied"]:
        batches.append(await apply_batch(connection, batch_rows=100))
    applied = [batch["applied"] for batch in batches]
    assert sum(applied) == _ROWS_OF_TRANSACTION * len(others) + 1
    # The transaction of the oldest row is added, and the last one may end beyond the 100.
    assert max(applied) <= 100 + 2 * _ROWS_OF_TRANSACTION
    revisions = await connection.fetch(_REVISIONS_OF_LAST_ROWS, others, _ROWS_OF_TRANSACTION)
    assert [row["revisions"] for row in revisions] == [1] * len(others)


async def test_no_plan_of_an_evaluation_touches_the_history(connection: asyncpg.Connection) -> None:
    users = [await make_long_account(connection, 20_000), *await make_accounts(connection, 200)]
    await connection.execute("ANALYZE")
    for some in (users[:1], users[:100]):
        text = await connection.fetchval(f"EXPLAIN (FORMAT json, VERBOSE) {LIVE_QUERIES.statement}", some)
        nodes = list(_nodes(json.loads(text)[0]["Plan"]))
        tables = {plan["Relation Name"] for plan in nodes if "Relation Name" in plan}
        assert {"accounts", "positions"} <= tables
        assert not tables & _HISTORY_TABLES


async def test_an_update_of_one_price_among_ten_is_an_eighth_of_the_state_at_most(
    connection: asyncpg.Connection, migrated_url: str, redis_url: str
) -> None:
    (user,) = await make_accounts(connection, 1)
    frames: asyncio.Queue[bytes] = asyncio.Queue()
    async with node(migrated_url, redis_url) as server, Sockets(urlsplit(server.url).port or 0) as sockets:
        sockets.on_frame = lambda _user, payload, _now: frames.put_nowait(payload)
        await sockets.connect([user], [server.token(user)])
        snapshot = await _next(frames, b'"type":"snapshot"')
        await connection.execute(MOVE, user, 1003, next(prices))
        update = await _next(frames, b'"type":"update"')
    assert json.loads(update)["patch"]["positions"]["open"].keys() == {"1003"}
    assert len(update) <= len(snapshot) / 8


async def test_a_plain_sync_is_shown_without_a_statement(
    statements: Statements, connection: asyncpg.Connection, migrated_url: str, redis_url: str
) -> None:
    (user,) = await make_accounts(connection, 1)
    frames: asyncio.Queue[bytes] = asyncio.Queue()
    async with node(migrated_url, redis_url) as server, Sockets(urlsplit(server.url).port or 0) as sockets:
        sockets.on_frame = lambda _user, payload, _now: frames.put_nowait(payload)
        await sockets.connect([user], [server.token(user)])
        await _sweeps_at_its_ordinary_pace(statements)
        evaluations = METRICS.evaluation_batches.get()
        for _ in range(20):
            price = next(prices)
            await connection.execute(MOVE, user, 1003, price)
            assert b'"current_price":%d' % price in await _next(frames, b'"type":"update"')
        assert METRICS.evaluation_batches.get() == evaluations


async def test_an_idle_node_sends_four_statements_a_second_at_most(
    statements: Statements, connection: asyncpg.Connection, migrated_url: str, redis_url: str
) -> None:
    users = await make_accounts(connection, 20)
    async with node(migrated_url, redis_url) as server, Sockets(urlsplit(server.url).port or 0) as sockets:
        await sockets.connect(users, [server.token(user) for user in users])
        await _sweeps_at_its_ordinary_pace(statements)
        sent = []
        for _ in range(_IDLE_SECONDS):
            before = statements.count
            await asyncio.sleep(1.0)
            sent.append(statements.count - before)
    # On a busy machine a canary may come late, and sweeps then follow each other for a second, which is not the usual
    # cost of a second.
    assert 1 <= median(sent) <= _IDLE_STATEMENTS


async def test_a_socket_lets_go_of_its_handshake_and_an_idle_account_of_its_encodings(
    connection: asyncpg.Connection, migrated_url: str, redis_url: str
) -> None:
    users = await make_accounts(connection, 20)
    async with node(migrated_url, redis_url) as server, Sockets(urlsplit(server.url).port or 0) as sockets:
        await sockets.connect(users, [server.token(user) for user in users])
        async with asyncio.timeout(_STARTED_SECONDS):
            while _alive(HandoverProtocol) or any(_encodings(snapshot) for snapshot in _of(Snapshot)):
                await asyncio.sleep(0.2)
        assert len(_of(Socket)) == len(users)
        assert len({snapshot.user_id for snapshot in _of(Snapshot)}) == len(users)


async def test_an_idle_socket_keeps_nothing_but_its_transport_its_identity_and_its_session(
    connection: asyncpg.Connection, migrated_url: str, redis_url: str
) -> None:
    users = await make_accounts(connection, 20)
    async with node(migrated_url, redis_url) as server, Sockets(urlsplit(server.url).port or 0) as sockets:
        await sockets.connect(users, [server.token(user) for user in users])
        async with asyncio.timeout(_STARTED_SECONDS):
            while _alive(ServerProtocol) or _alive(Allowance) or _alive(HandoverProtocol):
                await asyncio.sleep(0.2)
        held = [_held_by(socket) | _held_by(socket.stream) for socket in _of(Socket)]
    assert len(held) == len(users)
    assert all(kinds <= {Identity, SentState, Stream, Timing, WatchedAccount} for kinds in held)


async def test_a_crowd_that_came_leaves_nothing_to_the_garbage_collector(
    connection: asyncpg.Connection, migrated_url: str, redis_url: str
) -> None:
    users = await make_accounts(connection, 40)
    async with node(migrated_url, redis_url) as server, Sockets(urlsplit(server.url).port or 0) as sockets:
        tokens = [server.token(user) for user in users]
        await sockets.connect(users[:10], tokens[:10])
        gc.collect()
        gc.disable()
        try:
            await sockets.connect(users[10:], tokens[10:])
            await asyncio.sleep(0)
            left = [each for each in gc.get_objects() if type(each) is HandoverProtocol]
        finally:
            gc.enable()
    assert left == []


async def test_an_audit_is_four_statements_however_much_it_looks_at(
    statements: Statements, connection: asyncpg.Connection
) -> None:
    (user,) = await make_accounts(connection, 1)
    sources = await Sources.of(connection)

    async def shown(driver: Any, account: UUID) -> dict[str, Any]:
        (found,) = await LIVE_QUERIES.evaluate(driver, [account])
        return dict(found.state)

    async def audit() -> int:
        """The statements of the function, without the two cursors over rows, which may be many."""
        before = await statements.told()
        evidence = await read_evidence(
            connection, sources, user, shown=shown, most_rows=1000, most_rates=1000, timeout_seconds=5
        )
        assert evidence.judge().differences == []
        return await statements.told() - before

    await audit()
    assert await audit() == 4


def test_a_missed_target_says_so_in_the_table() -> None:
    slow = Figure(name="slow", unit="ms", ours=[3.0, 2.0, 4.0], reference=[1.0, 1.0, 1.0], target=2)
    few = Figure(name="few", unit="/s", ours=[6.0], reference=[10.0], target=0.5, more_is_better=True)
    assert (slow.ratio, slow.spread, slow.is_met) == (3.0, (2.0, 4.0), False)
    assert few.is_met
    _, _, first, second = table([slow, few]).splitlines()
    assert "MISSED" in first
    assert "MISSED" not in second


async def _applying_seconds(connection: asyncpg.Connection, users: list[UUID]) -> float:
    """CPU time of a batch that moves one price of each account."""
    await connection.execute(MOVE_ALL, users, next(prices))
    begun = _backend_seconds(connection)
    batch = await apply_batch(connection)
    assert batch["applied"] == len(batch["accounts"]) == len(users)
    return _backend_seconds(connection) - begun


def _backend_seconds(connection: asyncpg.Connection) -> float:
    try:
        return run_seconds(connection.get_server_pid())
    except FileNotFoundError:
        return time.perf_counter()


def _of(kind: type[T]) -> list[T]:
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is kind]


def _held_by(holder: object) -> set[type]:
    """The types of the objects that ``holder`` refers to, beside its transport, numbers and text."""
    plain = (int, float, str, bytes, tuple, type, type(None), asyncio.BaseTransport)
    return {type(each) for each in gc.get_referents(holder) if not isinstance(each, plain)}


def _alive(kind: type[object]) -> int:
    return len(_of(kind))


def _encodings(snapshot: Snapshot) -> int:
    return len(snapshot._wholes) + len(snapshot._patches)


async def _sweeps_at_its_ordinary_pace(statements: Statements) -> None:
    """Wait for a second with few statements, because a node sends more while it starts."""
    async with asyncio.timeout(_STARTED_SECONDS):
        while True:
            before = statements.count
            await asyncio.sleep(1.0)
            if statements.count - before <= _IDLE_STATEMENTS:
                return


async def _next(frames: asyncio.Queue[bytes], kind: bytes) -> bytes:
    async with asyncio.timeout(10):
        while kind not in (frame := await frames.get())[:40]:
            pass
    return frame


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)

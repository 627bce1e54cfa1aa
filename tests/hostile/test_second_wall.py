"""Another user's data, planted in each layer in turn: it is stopped, counted and logged, and never sent.

`tests/end_to_end/test_isolation.py` tests the first wall between accounts. Here that wall has failed already, and the
next layer must stop the data.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from guardwire.state import CHANNELS
from queries.channels import LIVE_QUERIES
from queries.live_query import LiveQueries
from queries.positions import BOOK
from realtime.delivery.sent_state import SentState
from realtime.history import Edge, Step
from realtime.metrics import METRICS
from realtime.owners import WrongOwner
from realtime.snapshot import Snapshot
from realtime.store.redis_pool import connect
from realtime.store.snapshots import SnapshotStore, to_stored
from tests.delivery.rest_server import RestServer, rest_server
from tests.delivery.stream_server import StreamServer, stream_server
from tests.end_to_end.mirror import Mirror, mirror
from tests.end_to_end.node import node
from tests.hostile.wall import MARK, blocks
from tests.inbox import wait_for_empty_inbox
from tests.queries.database_writer import DatabaseWriter
from tests.snapshots import FRESH, OTHER_USER, USER, snapshot

MINE, THEIRS = USER, OTHER_USER


def theirs(revision: int) -> Snapshot:
    """A snapshot of the other user, which is recognisable everywhere."""
    found = snapshot(revision, user_id=THEIRS, tickets=(77,))
    found.state["positions"]["open"]["77"]["symbol"] = MARK
    return found


# Rows from SQL.


@pytest.fixture
async def writer(migrated_url: str) -> AsyncIterator[DatabaseWriter]:
    """Writes for MINE; both users have a row of every kind, and from here on only a node applies rows."""
    connection = await asyncpg.connect(migrated_url)
    writer = DatabaseWriter(connection, MINE, applies=False)
    for each, symbol in ((writer, "XAUUSD"), (writer.of(THEIRS), MARK)):
        await each.sync(0, symbol=symbol)
        await each.sync(1, ticket=2, symbol=symbol, matched=2, divergence_reason=symbol)
        await each.guard("a gap", "1950.50", 3000, 2, symbol=symbol)
        await each.equity(10_000)
        await each.equity(5_000, 3)
        await each.set_limits(minimum_equity=100)
    await writer.apply()
    yield writer
    await connection.close()


#: The predicates that keep accounts apart in the live query; each is removed in turn.
PREDICATES = {
    "open positions": ("WHERE p.user_id = watched.user_id AND p.is_open", "WHERE p.is_open"),
    "recent events": ("WHERE e.user_id = watched.user_id\n", "WHERE true\n"),
    "market alerts": ("WHERE m.user_id = watched.user_id)", "WHERE true)"),
    "breaches": ("WHERE b.user_id = watched.user_id", "WHERE true"),
    "account": ("ON account.user_id = watched.user_id", f"ON account.user_id = '{THEIRS}'"),
    "limits": ("ON limits.user_id = watched.user_id", f"ON limits.user_id = '{THEIRS}'"),
}


@pytest.mark.parametrize("what", PREDICATES)
async def test_a_row_that_holds_anything_of_another_account_is_no_result(
    writer: DatabaseWriter, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    careless = LiveQueries(LIVE_QUERIES.channels, book=BOOK)
    before, after = PREDICATES[what]
    assert careless.statement.count(before) == 1
    careless.statement = careless.statement.replace(before, after)
    with blocks(caplog, layer="row", whose=THEIRS):
        assert await careless.evaluate(writer.connection, [MINE]) == []


async def test_the_row_of_an_account_that_nobody_asked_for_is_no_result(
    writer: DatabaseWriter, caplog: pytest.LogCaptureFixture
) -> None:
    class Confused:
        """A connection that answers for another account than the requested one."""

        async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]:  # noqa: ASYNC109 - asyncpg's own
            found: list[Any] = await writer.connection.fetch(query, [THEIRS], timeout=timeout)
            return found

    with blocks(caplog, layer="row", whose=MARK):
        assert await LIVE_QUERIES.evaluate(Confused(), [MINE]) == []


async def test_what_is_left_as_it_is_reads_both_accounts(writer: DatabaseWriter) -> None:
    found = {
        each.user_id: each.state for each in await LIVE_QUERIES.evaluate(writer.connection, [MINE, THEIRS])
    }
    assert MARK not in json.dumps(found[MINE])
    assert MARK in json.dumps(found[THEIRS])
    for state in found.values():
        assert state["positions"]["open"]
        assert state["status"]["recent_events"]
        assert state["guards"]["alerts"]
        assert state["guards"]["breaches"]


# Values from Redis.


async def commit(store: SnapshotStore, steps: Iterable[Step]) -> list[int]:
    return await store.commit([to_stored(step) for step in steps])


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def store(redis: Redis) -> SnapshotStore:
    """A store in which both accounts have taken the same step."""
    store = SnapshotStore(redis, channels=CHANNELS)
    await commit(store, [Step(snapshot(5), None), Step(theirs(5), None)])
    await commit(
        store, [Step(snapshot(6, syncs=2), snapshot(5)), Step(theirs(6), snapshot(5, user_id=THEIRS))]
    )
    assert set(await store.load([MINE, THEIRS])) == {MINE, THEIRS}
    return store


async def key_of(redis: Redis, user_id: UUID, kind: str) -> bytes:
    (key,) = [
        key async for key in redis.scan_iter() if str(user_id).encode() in key and key.endswith(kind.encode())
    ]
    return bytes(key)


@pytest.mark.parametrize("fields", [None, [b"state"], [b"state", b"revision", b"epoch"], [b"owner"]])
async def test_a_stored_snapshot_of_another_account_is_not_used(
    store: SnapshotStore, redis: Redis, caplog: pytest.LogCaptureFixture, fields: list[bytes] | None
) -> None:
    held: dict[Any, Any] = await redis.hgetall(await key_of(redis, THEIRS, ":snapshot"))
    planted: dict[Any, Any] = held if fields is None else {field: held[field] for field in fields}
    await redis.hset(await key_of(redis, MINE, ":snapshot"), mapping=planted)
    with blocks(caplog, layer="stored snapshot", whose=THEIRS):
        assert await store.load([MINE]) == {}


@pytest.mark.parametrize("beside_ones_own", [False, True])
async def test_stored_steps_of_another_account_are_not_used(
    store: SnapshotStore, redis: Redis, caplog: pytest.LogCaptureFixture, beside_ones_own: bool
) -> None:
    mine, other = await key_of(redis, MINE, ":edges"), await key_of(redis, THEIRS, ":edges")
    if not beside_ones_own:
        await redis.delete(mine)
    await redis.rpush(mine, *await redis.lrange(other, 0, -1))
    with blocks(caplog, layer="stored step", whose=THEIRS):
        assert await store.load([MINE]) == {}  # the newest state would be computed from these steps
    await commit(store, [Step(snapshot(7, syncs=3), None)])
    with blocks(caplog, layer="stored step", whose=THEIRS):
        stored = (await store.load([MINE]))[MINE]
    assert stored.edges == ()
    assert MARK not in json.dumps(stored.snapshot.state)


def test_a_step_of_another_account_is_stopped_where_frames_are_made_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent = SentState(MINE, CHANNELS, snapshot(6))
    edge = Edge(THEIRS, 5, 6, f'{{"positions":"{MARK}"}}'.encode())
    with blocks(caplog, layer="step of a resume", whose=THEIRS), pytest.raises(WrongOwner):
        sent.resume(5, CHANNELS, [edge], snapshot(6), FRESH)


# Snapshots in a node's memory, on every way out of it.


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    async with stream_server() as server:
        yield server


def plant(server: StreamServer) -> None:
    """Make the other user's snapshot this account's newest, past the hub's own check."""
    server.hub.reading(MINE).snapshot = theirs(9)


async def test_the_hub_takes_no_snapshot_of_another_account(
    server: StreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    watch = server.hub.reading(MINE)
    with blocks(caplog, layer="hub", whose=THEIRS):
        assert not watch.advance(theirs(9), None, as_of=FRESH.as_of, read_at=1.0)
    assert watch.snapshot is None


async def heard(connection: ClientConnection) -> tuple[int, str]:
    """The close code, and all frames before it."""
    texts: list[str] = []

    async def listen() -> None:
        while True:
            texts.append(str(await connection.recv()))

    with pytest.raises(ConnectionClosed) as closed:
        await asyncio.wait_for(listen(), 10)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, "".join(texts)


async def news(server: StreamServer, _: ClientConnection) -> None:
    server.hub.reading(MINE).wake(1.0, stale=False)


async def resync(_: StreamServer, connection: ClientConnection) -> None:
    await connection.send('{"type":"resync"}')


async def subscribe(_: StreamServer, connection: ClientConnection) -> None:
    await connection.send('{"type":"subscribe","channels":["positions"]}')


@pytest.mark.parametrize("act", [news, resync, subscribe])
async def test_an_open_websocket_is_not_sent_what_was_planted_in_the_hub(
    server: StreamServer,
    caplog: pytest.LogCaptureFixture,
    act: Callable[[StreamServer, ClientConnection], Awaitable[None]],
) -> None:
    async with server.connect("?channels=status,guards", headers=server.headers(MINE)) as connection:
        await server.opened(snapshot(5), connection)
        plant(server)
        with blocks(caplog, layer="frame", whose=THEIRS):
            await act(server, connection)
            code, told = await heard(connection)
    assert code == 1013
    assert MARK not in told


async def test_a_new_websocket_is_not_sent_what_was_planted_in_the_hub(
    server: StreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    plant(server)
    with blocks(caplog, layer="frame", whose=THEIRS):
        async with server.connect(headers=server.headers(MINE)) as connection:
            code, told = await heard(connection)
    assert code == 1013
    assert MARK not in told


@pytest.mark.parametrize("path", ["/api/v1/state", "/api/v1/state?since=9:5&wait=5", "/api/v1/stream"])
async def test_plain_http_is_not_sent_what_was_planted_in_the_hub(
    server: StreamServer, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    plant(server)
    with blocks(caplog, layer="frame", whose=THEIRS):
        assert MARK not in await body(server, path)


@pytest.mark.parametrize("path", ["/api/v1/state?since=9:5&wait=5", "/api/v1/stream"])
async def test_who_waits_over_plain_http_is_not_sent_it_either(
    server: StreamServer, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    server.hub.reading(MINE)
    server.publish(snapshot(5))
    with blocks(caplog, layer="frame", whose=THEIRS):
        asking = asyncio.create_task(body(server, path))
        await server.watched(MINE)
        plant(server)
        server.hub.reading(MINE).wake(1.0, stale=False)
        assert MARK not in await asking


async def body(server: StreamServer, path: str) -> str:
    """The whole answer, until it ends or is cut."""
    received = bytearray()
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        try:
            async with client.stream(
                "GET", f"http://{server.address}{path}", headers=server.headers(MINE)
            ) as answer:
                async for piece in answer.aiter_raw():
                    received += piece
        except httpx.RemoteProtocolError:
            pass  # the answer was cut
    return received.decode()


async def test_what_was_planted_in_the_hub_is_replaced_by_the_next_read(server: StreamServer) -> None:
    server.hub.reading(MINE)
    server.publish(snapshot(5))
    plant(server)
    # The sweep takes the account for unread, and the feed does not continue from the planted snapshot.
    assert dict(server.hub.watched())[MINE] == -1
    assert server.hub.snapshot_of(MINE) is None
    server.publish(snapshot(6, syncs=2))
    async with server.connect(headers=server.headers(MINE)) as connection:
        await connection.recv()
        first = json.loads(await connection.recv())
    assert (first["type"], first["revision"]) == ("snapshot", 6)


# The documents of REST, which are kept with their snapshot.

DOCUMENTS = {
    "status": "/api/v1/reconciliation/status",
    "positions": "/api/v1/positions/open",
    "guards": "/api/v1/guards/status",
}


@pytest.fixture
async def rest() -> AsyncIterator[RestServer]:
    async with rest_server() as server:
        yield server


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_a_kept_document_of_another_account_is_not_answered(
    rest: RestServer, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    mine, other = rest.publish(MINE), rest.publish(THEIRS)
    for user in (MINE, THEIRS):
        assert (await rest.get(DOCUMENTS[name], user)).json()["user_id"] == str(user)
    mine.documents[name] = other.documents[name].replace(b"}", f',"{MARK}":1}}'.encode(), 1)
    with blocks(caplog, layer="document", whose=THEIRS):
        answer = await rest.get(DOCUMENTS[name], MINE)
    assert answer.status_code == 503
    assert MARK not in answer.text
    assert str(THEIRS) not in answer.text


# The notifications that PostgreSQL carries: any login that may connect may send one.


def forged(user_ids: Iterable[UUID]) -> list[str]:
    """Payloads of an attacker who wants a client to get another account's data."""
    mine, other = user_ids
    delta = f"1 {mine} 1 9007199254740991 5 1 1 1 {MARK} 7 1 7 0|1 1 9 9 9 1"
    return [
        f"{mine}=9007199254740991",
        f"{mine}={{{MARK}}}",
        f"{mine}={other}",
        f"{other}={mine}",
        f'{{"user_id":"{mine}","state":{{"positions":"{MARK}"}}}}',
        f"{mine}=1,{other}=9007199254740991,{MARK}",
        MARK * 500,
        delta,
        f"#{delta}",
        f"{'0' * 32}#{delta}",
        f"{'0' * 32}#{delta.replace(str(mine), str(other))}",
    ]


async def test_forged_hints_only_make_the_node_look(
    migrated_url: str, redis_url: str, writer: DatabaseWriter
) -> None:
    """Knowing the secret channel is not enough to make a node show anything, because every delta carries a code."""
    channels = ["guardwire", "guardwire_inbox"]
    channels.append(await writer.connection.fetchval("SELECT delta_channel FROM guardwire.configuration"))
    refused = METRICS.forged_notifications.get()
    async with (
        node(migrated_url, redis_url, heartbeat_seconds=0.5) as server,
        mirror(server.url, server.token(MINE)) as account,
        mirror(server.url, server.token(THEIRS)) as other,
    ):
        await until_heard()
        for channel in channels:
            for payload in forged((MINE, THEIRS)):
                await writer.connection.execute("SELECT pg_notify($1, $2)", channel, payload)
        await both_move(writer, account, other)
        assert not [frame for frame in account.frames if MARK in frame.text]
        assert [frame for frame in other.frames if MARK in frame.text]
    assert METRICS.forged_notifications.get() == refused + len(forged((MINE, THEIRS)))


async def test_a_delta_that_is_sent_again_changes_nothing(
    migrated_url: str, redis_url: str, writer: DatabaseWriter
) -> None:
    """An authentic notification that was recorded has the effect of a change notice, and no other."""
    recorded: list[str] = []
    channel = await writer.connection.fetchval("SELECT delta_channel FROM guardwire.configuration")
    await writer.connection.add_listener(channel, lambda *each: recorded.append(str(each[3])))
    async with (
        node(migrated_url, redis_url, heartbeat_seconds=0.5) as server,
        mirror(server.url, server.token(MINE)) as account,
        mirror(server.url, server.token(THEIRS)) as other,
    ):
        await until_heard()
        await both_move(writer, account, other, price=1956)
        await both_move(writer, account, other, price=1957)
        deltas = [notification for notification in recorded if "#" in notification]
        assert deltas
        for notification in deltas:
            await writer.connection.execute("SELECT pg_notify($1, $2)", channel, notification)
        await both_move(writer, account, other, price=1958)
        for each in (account, other):
            prices = [
                frame["patch"]["positions"]["open"]["1"]["current_price"]
                for frame in each.frames_of("update")
                if "current_price" in frame["patch"].get("positions", {}).get("open", {}).get("1", {})
            ]
            assert prices == [1956, 1957, 1958]


async def until_heard() -> None:
    """Wait until the node receives its own notifications."""
    async with asyncio.timeout(20):
        while not METRICS.listener_up.get():
            await asyncio.sleep(0.05)


async def both_move(writer: DatabaseWriter, account: Mirror, other: Mirror, *, price: float = 1956) -> None:
    """Write a price for both accounts as the platform, and wait until both clients are at the newest revision."""
    await writer.sync(5, current_price=price)
    await writer.of(THEIRS).sync(5, symbol=MARK, current_price=price)
    await wait_for_empty_inbox(writer.connection)
    revisions = await writer.revisions()
    await account.until_revision(revisions[MINE])
    await other.until_revision(revisions[THEIRS])

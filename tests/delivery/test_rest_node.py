"""REST of a whole node: a platform commits rows to PostgreSQL, and a poller reads them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from queries.migrations.run import migrate
from realtime.delivery.http.responses import FRESH_MS
from realtime.embedded import EmbeddedServers
from tests.delivery.platform import Platform
from tests.delivery.test_openapi import check
from tests.end_to_end.node import Node, node

STATUS = "/api/v1/reconciliation/status"
OPEN = "/api/v1/positions/open"
GUARDS = "/api/v1/guards/status"
PATIENCE_SECONDS = 10


@pytest.fixture
async def platform(migrated_url: str) -> AsyncIterator[Platform]:
    connection = await asyncpg.connect(migrated_url)
    yield Platform(connection)
    await connection.close()


@pytest.fixture
async def server(migrated_url: str, redis_url: str) -> AsyncIterator[Node]:
    async with node(migrated_url, redis_url) as server:
        yield server


@pytest.fixture
def ann() -> UUID:
    return uuid4()


async def answer_of(server: Node, path: str, user_id: UUID, **headers: str) -> httpx.Response:
    authorization = {"Authorization": f"Bearer {server.token(user_id)}"}
    return await server.client.get(path, headers=authorization | headers)


async def told(server: Node, path: str, user_id: UUID, until: Callable[[Any], bool]) -> Any:
    """The document once ``until`` holds for it."""
    document = None
    async with asyncio.timeout(PATIENCE_SECONDS):
        while document is None or not until(document):
            document = await server.get(path, user_id)
    return document


async def test_an_account_without_rows_is_answered_as_unknown_and_not_made_up(
    server: Node, ann: UUID
) -> None:
    status, positions, guards = [await server.get(path, ann) for path in (STATUS, OPEN, GUARDS)]
    assert (status["status"], status["last_sync_at"], status["total_syncs"]) == ("idle", None, 0)
    assert (positions["total_positions"], positions["positions"]) == (0, [])
    assert guards["system_status"] == "unknown"
    assert guards["drawdown_guard"]["alert_type"] == "unknown"
    assert guards["drawdown_guard"]["current_equity"] is None
    assert (await answer_of(server, STATUS, ann)).headers["guardwire-revision"] == "0"


async def test_the_contracts_check_value_comes_out_of_rows(
    server: Node, platform: Platform, ann: UUID
) -> None:
    await platform.equity(ann, 10_000)
    position_id = await platform.log(ann, 2**31)
    document = await told(server, OPEN, ann, lambda document: document["total_positions"] == 1)
    (position,) = document["positions"]
    assert (position["unrealized_pnl"], position["unrealized_pnl_pct"]) == (52.5, 0.27)
    assert (position["ticket"], position["position_id"]) == (2147483648, str(position_id))
    assert (document["total_unrealized_pnl"], document["total_unrealized_pnl_pct"]) == (52.5, 0.53)


async def test_a_position_by_its_id_is_the_one_in_the_list(
    server: Node, platform: Platform, ann: UUID
) -> None:
    await platform.equity(ann, 10_000, currency="GBP")
    await platform.rate("GBP", "USD", "1.27")
    await platform.rate("EUR", "GBP", "0.853")
    for ticket, symbol in enumerate(("XAUUSD", "GER40", "unheard.of", "AUS200"), 1):
        await platform.log(ann, ticket, symbol=symbol, volume=Decimal("0.37"), direction="SELL")
    document = await told(server, OPEN, ann, lambda document: document["total_positions"] == 4)
    assert [position["pnl_currency"] for position in document["positions"]] == ["AUD", "GBP", "GBP", "GBP"]
    for position in document["positions"]:
        assert await server.get(f"/api/v1/positions/{position['position_id']}", ann) == position


@pytest.mark.parametrize(
    ("equity", "pct", "level"), [(9_500, 5.0, "normal"), (8_500, 15.0, "warning"), (8_000, 20.0, "critical")]
)
async def test_the_contracts_drawdowns(
    server: Node, platform: Platform, ann: UUID, equity: int, pct: float, level: str
) -> None:
    await platform.equity(ann, 10_000)
    await platform.equity(ann, equity)
    document = await told(
        server, GUARDS, ann, lambda document: document["drawdown_guard"]["current_equity"] == equity
    )
    guard = document["drawdown_guard"]
    assert (guard["current_drawdown_pct"], guard["alert_type"]) == (pct, level)
    assert guard["should_close_all"] is document["any_positions_should_close"] is (level == "critical")
    assert document["system_status"] == ("healthy" if level == "normal" else "warning")
    if level == "critical":
        assert 50 <= guard["time_to_liquidation_seconds"] <= 60
    else:
        assert guard["time_to_liquidation_seconds"] is None


async def test_a_poller_is_confirmed_until_a_row_is_committed(
    server: Node, platform: Platform, ann: UUID
) -> None:
    await platform.log(ann, 1)
    await told(server, OPEN, ann, lambda document: document["total_positions"] == 1)
    held = (await answer_of(server, OPEN, ann)).headers["etag"]
    assert (await answer_of(server, OPEN, ann, **{"If-None-Match": held})).status_code == 304
    await platform.close(ann, 1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (answer := await answer_of(server, OPEN, ann, **{"If-None-Match": held})).status_code == 304:
            await asyncio.sleep(0)
    assert answer.json()["positions"] == []


async def test_all_documents_of_one_account_stand_at_one_revision(
    server: Node, platform: Platform, ann: UUID
) -> None:
    await platform.log(ann, 1)
    await told(server, OPEN, ann, lambda document: document["total_positions"] == 1)
    answers = [await answer_of(server, path, ann) for path in (STATUS, OPEN, GUARDS)]
    assert len({answer.headers["guardwire-revision"] for answer in answers}) == 1
    assert all(answer.headers["guardwire-stale"] == "false" for answer in answers)


async def test_every_document_of_a_busy_account_is_as_the_openapi_document_says(
    server: Node, platform: Platform, ann: UUID
) -> None:
    await platform.equity(ann, 10_000)
    await platform.equity(ann, 7_000)
    closed = await platform.log(ann, 1)
    await platform.close(ann, 1, closed_price=Decimal("1951.25"), pnl_gbp=Decimal("7.5"))
    await platform.log(ann, 2, matched=2, divergence_reason="volume_mismatch")
    await platform.log(
        ann, 3, symbol=None, direction=None, volume=Decimal("NaN"), entry_price=None, current_price=None
    )
    now = datetime.now(UTC)
    for reason in ("gap", "spread", "liquidity", "weather"):
        await platform.log(
            ann,
            None,
            event_type="guard_trigger",
            symbol=reason[:1],
            current_price=Decimal(2500),
            divergence_reason=reason,
            created_at=now - timedelta(seconds=5),
        )
    guards = await told(server, GUARDS, ann, lambda document: len(document["market_guard_alerts"]) >= 4)
    assert guards["any_positions_should_close"] is True
    by_id = "/api/v1/positions/{position_id}"
    for path, template in (
        (STATUS, STATUS),
        (OPEN, OPEN),
        (GUARDS, GUARDS),
        (f"/api/v1/positions/{closed}", by_id),
    ):
        answer = await answer_of(server, path, ann)
        assert answer.status_code == 200
        check(answer, template)


async def test_reading_a_watched_account_costs_no_statement(
    server: Node, platform: Platform, ann: UUID
) -> None:
    await platform.log(ann, 1)
    await told(server, OPEN, ann, lambda document: document["total_positions"] == 1)
    counted = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    await platform.connection.execute("SELECT pg_stat_clear_snapshot()")
    before = await platform.connection.fetchval(counted)
    for _ in range(300):
        assert (await answer_of(server, STATUS, ann)).status_code == 200
    await platform.connection.execute("SELECT pg_stat_clear_snapshot()")
    # Only the node's own rounds remain, for any number of readers.
    assert await platform.connection.fetchval(counted) - before < 150


@pytest.fixture
def mortal() -> Iterator[EmbeddedServers]:
    with EmbeddedServers.start() as servers:
        yield servers


@contextlib.asynccontextmanager
async def node_with_a_position(servers: EmbeddedServers, user_id: UUID) -> AsyncIterator[tuple[Node, Any]]:
    """A node on these servers that knows one position of the user, and the document with it."""
    await migrate(servers.database_url)
    async with node(servers.database_url, servers.redis_url) as server:
        connection = await asyncpg.connect(servers.database_url)
        await Platform(connection).log(user_id, 1)
        await connection.close()
        yield server, await told(server, OPEN, user_id, lambda document: document["total_positions"] == 1)


@pytest.mark.fault
async def test_with_the_database_gone_what_is_known_is_served_as_stale_and_what_is_not_is_a_503(
    mortal: EmbeddedServers, ann: UUID
) -> None:
    assert mortal.postgres is not None
    assert mortal.postgres.pid is not None
    async with node_with_a_position(mortal, ann) as (server, _):
        os.kill(mortal.postgres.pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (answer := await answer_of(server, OPEN, ann)).headers["guardwire-stale"] == "false":
                assert int(answer.headers["guardwire-age-ms"]) <= FRESH_MS
        assert answer.json()["total_positions"] == 1
        for path, user_id in ((OPEN, uuid4()), (f"/api/v1/positions/{uuid4()}", ann)):
            answer = await answer_of(server, path, user_id)
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
        assert (await server.client.get("/api/v1/trading/health")).status_code == 200
        await asyncio.to_thread(mortal.postgres.end)
        mortal.postgres.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await answer_of(server, OPEN, ann)).headers["guardwire-stale"] == "true":
                await asyncio.sleep(0.01)


@pytest.mark.fault
async def test_without_a_database_a_new_node_serves_what_redis_remembers_as_stale_and_of_unknown_age(
    mortal: EmbeddedServers, ann: UUID
) -> None:
    assert mortal.postgres is not None
    assert mortal.postgres.pid is not None
    async with node_with_a_position(mortal, ann) as (first, known):
        revision = (await answer_of(first, OPEN, ann)).headers["guardwire-revision"]
        redis = Redis.from_url(mortal.redis_url)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(
                [revision.encode() in await redis.hvals(key) async for key in redis.scan_iter("*snapshot")]
            ):
                await asyncio.sleep(0.01)
        await redis.aclose()
    os.kill(mortal.postgres.pid, signal.SIGKILL)
    async with node(mortal.database_url, mortal.redis_url) as second:
        answer = await answer_of(second, OPEN, ann)
        assert answer.json() == known
        assert answer.headers["guardwire-stale"] == "true"
        assert "guardwire-age-ms" not in answer.headers
    await asyncio.to_thread(mortal.postgres.end)

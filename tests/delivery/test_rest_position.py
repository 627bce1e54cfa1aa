"""One position by its id or by the id of any of its log rows, from a real database."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import text

from queries import position_by_id
from queries.live_query import wire_epoch
from queries.position_by_id import STATEMENT
from realtime.metrics import METRICS
from tests.delivery.rest_server import RestServer, rest_server

ANN, BOB = uuid4(), uuid4()
LOG_ROWS = 100_000

_POSITION = """ INSERT INTO guardwire.positions (
    user_id, ticket, position_id, is_open, matched, symbol, direction, volume, entry_price, current_price,
    stop_loss, entry_time, state_at, state_revision, state_ordinal, updated_at, closed_price,
    quote_currency, contract_size, contract_size_assumed, pnl, pnl_pct)
VALUES (
    $1, $2, $3, $4, $5, 'XAUUSD', 'buy', 0.1, 1950.50, $6,
    1940, '2025-01-15 09:00Z', '2025-01-15 10:00Z', 1, 1, '2025-01-15 10:00Z', $7,
    $8, 100, false, 52.5, 0.27)
"""
_CUT_THE_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


class Tables:
    """The tables as the capture would leave them. Its triggers are off here: they have tests of their own."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def account(self, user_id: UUID, *, revision: int = 7, currency: str | None = "USD") -> None:
        await self.connection.execute(
            "INSERT INTO guardwire.accounts (user_id, revision, currency) VALUES ($1, $2, $3)",
            user_id,
            revision,
            currency,
        )

    async def position(
        self,
        user_id: UUID,
        ticket: int,
        *,
        is_open: bool = True,
        matched: int = 1,
        current: str | None = "1955.75",
        closed: str | None = None,
        quote: str = "USD",
    ) -> UUID:
        position_id = uuid4()
        prices = [None if price is None else Decimal(price) for price in (current, closed)]
        await self.connection.execute(
            _POSITION, user_id, ticket, position_id, is_open, matched, *prices, quote
        )
        await self.log_row(user_id, ticket, position_id)
        return position_id

    async def log_row(self, user_id: UUID, ticket: int | None, row_id: UUID | None = None) -> UUID:
        row_id = row_id or uuid4()
        await self.connection.execute(
            "INSERT INTO reconciliation_logs (id, user_id, mt5_position_id, event_type) VALUES ($1, $2, $3,"
            " 'sync')",
            row_id,
            user_id,
            ticket,
        )
        return row_id


@pytest.fixture
async def tables(migrated_url: str) -> AsyncIterator[Tables]:
    connection = await asyncpg.connect(migrated_url)
    await connection.execute("SET session_replication_role = replica")
    tables = Tables(connection)
    for user in (ANN, BOB):
        await tables.account(user)
    yield tables
    await connection.close()


@pytest.fixture
async def server(tables: Tables, migrated_url: str) -> AsyncIterator[RestServer]:
    async with rest_server(migrated_url) as server:
        yield server


async def found(server: RestServer, position_id: object, user: UUID = ANN) -> dict[str, Any]:
    answer = await server.get(f"/api/v1/positions/{position_id}", user)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def test_an_open_position_is_told_as_the_list_tells_it(server: RestServer, tables: Tables) -> None:
    position_id = await tables.position(ANN, 2**63 - 1)
    assert await found(server, position_id) == {
        "position_id": str(position_id),
        "ticket": 9223372036854775807,
        "symbol": "XAUUSD",
        "direction": "buy",
        "volume": 0.1,
        "entry_price": 1950.5,
        "entry_time": "2025-01-15T09:00:00.000000Z",
        "current_price": 1955.75,
        "unrealized_pnl": 52.5,
        "unrealized_pnl_pct": 0.27,
        "pnl_currency": "USD",
        "contract_size_assumed": False,
        "take_profit": None,
        "stop_loss": 1940.0,
        "status": "open",
        "matched_with_bot": True,
        "last_updated_at": "2025-01-15T10:00:00.000000Z",
    }


async def test_a_closed_position_has_its_last_price_and_nothing_unrealized(
    server: RestServer, tables: Tables
) -> None:
    document = await found(server, await tables.position(ANN, 1, is_open=False, closed="1960.25"))
    assert (document["status"], document["current_price"]) == ("closed", 1960.25)
    assert (document["unrealized_pnl"], document["unrealized_pnl_pct"]) == (None, None)
    document = await found(server, await tables.position(ANN, 2, is_open=False))
    assert document["current_price"] == 1955.75


async def test_the_current_price_is_the_entry_price_until_one_is_known(
    server: RestServer, tables: Tables
) -> None:
    assert (await found(server, await tables.position(ANN, 1, current=None)))["current_price"] == 1950.5


@pytest.mark.parametrize(("matched", "with_bot"), [(0, False), (1, True), (2, False)])
async def test_whether_bot_and_broker_agree_is_told(
    server: RestServer, tables: Tables, matched: int, with_bot: bool
) -> None:
    document = await found(server, await tables.position(ANN, 1, matched=matched))
    assert document["matched_with_bot"] is with_bot


async def test_the_id_of_any_log_row_of_the_ticket_leads_to_the_position(
    server: RestServer, tables: Tables
) -> None:
    position_id = await tables.position(ANN, 1)
    for row_id in [await tables.log_row(ANN, 1) for _ in range(3)]:
        assert (await found(server, row_id))["position_id"] == str(position_id)
        assert (await found(server, str(row_id).upper()))["position_id"] == str(position_id)


async def test_profit_is_in_the_accounts_currency_where_there_is_a_rate_and_else_says_which(
    server: RestServer, tables: Tables
) -> None:
    direct, inverse, none = [
        await tables.position(ANN, ticket, quote=quote)
        for ticket, quote in enumerate(("EUR", "JPY", "CHF"), 1)
    ]
    await tables.connection.execute(
        "INSERT INTO guardwire.fx_current (base, quote, rate, as_of) VALUES ('EUR', 'USD', 1.1, now()),"
        " ('USD', 'JPY', 150, now())"
    )
    told = [await found(server, position_id) for position_id in (direct, inverse, none)]
    assert [(each["unrealized_pnl"], each["pnl_currency"]) for each in told] == [
        (57.75, "USD"),
        (0.35, "USD"),
        (52.5, "CHF"),
    ]


async def test_another_users_an_unknown_and_a_useless_id_are_the_same_404(
    server: RestServer, tables: Tables
) -> None:
    await tables.position(ANN, 1)
    bobs = await tables.position(BOB, 1)
    ids = [
        bobs,
        await tables.log_row(BOB, 1),
        uuid4(),
        await tables.log_row(ANN, None),
        await tables.log_row(ANN, 99),
    ]
    answers = [await server.get(f"/api/v1/positions/{each}", ANN, x_request_id="same") for each in ids]
    assert [answer.status_code for answer in answers] == [404] * 5
    bodies = {json.dumps({**answer.json(), "instance": ""}) for answer in answers}
    assert len(bodies) == 1
    headers = [
        {name: value for name, value in answer.headers.items() if name != "date"} for answer in answers
    ]
    assert all(each == headers[0] for each in headers)
    assert (await found(server, bobs, BOB))["position_id"] == str(bobs)


async def test_an_id_that_is_no_uuid_is_a_422_and_costs_no_statement(server: RestServer) -> None:
    for odd in ("1", "opne", "null", "0b8f5a524f0e4d6f9a572f1c3f6a7b2e", "%00", "'%3B--"):
        answer = await server.get(f"/api/v1/positions/{odd}", ANN)
        assert answer.status_code == 422
        assert "position_id" in answer.json()["detail"]


async def test_the_answer_carries_the_position_in_history_and_is_confirmed_by_it(
    server: RestServer, tables: Tables
) -> None:
    position_id = await tables.position(ANN, 1)
    epoch = wire_epoch(await tables.connection.fetchval("SELECT epoch FROM guardwire.epoch"))
    answer = await server.get(f"/api/v1/positions/{position_id}", ANN)
    assert answer.headers["etag"] == f'"{epoch}:7"'
    assert answer.headers["guardwire-stale"] == "false"
    assert answer.headers["guardwire-as-of"].endswith("Z")
    assert int(answer.headers["guardwire-age-ms"]) < 3_000
    again = await server.get(f"/api/v1/positions/{position_id}", ANN, if_none_match=answer.headers["etag"])
    assert again.status_code == 304
    await tables.connection.execute("UPDATE guardwire.accounts SET revision = 8 WHERE user_id = $1", ANN)
    again = await server.get(f"/api/v1/positions/{position_id}", ANN, if_none_match=answer.headers["etag"])
    assert again.status_code == 200


async def test_who_asks_too_often_is_told_how_long_to_wait_and_others_are_not(server: RestServer) -> None:
    path = f"/api/v1/positions/{uuid4()}"
    answers = [await server.get(path, ANN) for _ in range(80)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert all(answer.status_code == 404 for answer in answers[:40])
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert refused[0].json()["type"] == "/api/v1/problems/too-many-requests"
    assert (await server.get(path, BOB)).status_code == 404


async def test_a_database_that_is_not_there_is_a_503_with_when_to_try_again() -> None:
    async with rest_server() as server:
        answer = await server.get(f"/api/v1/positions/{uuid4()}", ANN)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"


async def test_connections_that_the_database_has_cut_are_a_503_at_most_once(
    server: RestServer, tables: Tables
) -> None:
    position_id = await tables.position(ANN, 1)
    await found(server, position_id)
    assert await tables.connection.fetch(_CUT_THE_OTHERS)
    answers = [await server.get(f"/api/v1/positions/{position_id}", ANN) for _ in range(6)]
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 503}
    assert statuses[-1] == 200


async def test_another_users_row_is_blocked_counted_and_logged_even_if_the_statement_gave_it(
    server: RestServer, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    bobs = await tables.position(BOB, 1)
    # The first wall is taken away, so that the second one is seen to stand.
    anybodys = re.sub(
        r"WHERE p\.user_id = .*",
        "WHERE p.position_id = :position_id AND CAST(:user_id AS uuid) IS NOT NULL",
        STATEMENT,
        flags=re.DOTALL,
    )
    monkeypatch.setattr(position_by_id, "_statement", text(anybodys))
    blocked = METRICS.cross_user_blocked.get()
    answer = await server.get(f"/api/v1/positions/{bobs}", ANN)
    assert answer.status_code == 404
    assert METRICS.cross_user_blocked.get() == blocked + 1


async def test_finding_a_position_costs_the_same_however_long_the_log_and_whosever_it_is(
    tables: Tables,
) -> None:
    connection = tables.connection
    position_id = await tables.position(ANN, 1)
    bobs = await tables.position(BOB, 1)
    await connection.execute(
        "INSERT INTO reconciliation_logs (id, user_id, mt5_position_id, event_type)"
        " SELECT gen_random_uuid(), $1, 1 + n % 300, 'sync' FROM generate_series(1, $2::integer) AS n",
        ANN,
        LOG_ROWS,
    )
    await connection.execute(
        "INSERT INTO guardwire.positions SELECT (jsonb_populate_record(p, jsonb_build_object('ticket', n,"
        " 'position_id', gen_random_uuid(), 'is_open', n < 10))).* FROM guardwire.positions AS p,"
        " generate_series(2, 300) AS n"
    )
    await connection.execute(
        "INSERT INTO guardwire.accounts (user_id, revision)"
        " SELECT gen_random_uuid(), 1 FROM generate_series(1, 5000)"
    )
    await connection.execute("ANALYZE")
    row_id = await connection.fetchval(
        "SELECT id FROM reconciliation_logs WHERE user_id = $1 OFFSET 77777 LIMIT 1", ANN
    )
    bobs_row = await connection.fetchval("SELECT id FROM reconciliation_logs WHERE user_id = $1 LIMIT 1", BOB)
    asked = {"own": position_id, "row": row_id, "bobs": bobs, "bobs row": bobs_row, "unknown": uuid4()}
    plans = {name: await plan(connection, each) for name, each in asked.items()}
    for name, (nodes, blocks) in plans.items():
        scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
        assert not scanned & {"reconciliation_logs", "positions", "accounts"}, name
        assert blocks <= 20, name
    steps = [
        [(node["Node Type"], node["Actual Loops"]) for node in plans[name][0]]
        for name in ("bobs", "bobs row", "unknown")
    ]
    assert steps[0] == steps[1] == steps[2]


async def plan(connection: Any, position_id: UUID) -> tuple[list[dict[str, Any]], int]:
    """Every node of the plan of looking ``position_id`` up for ANN as it ran, and the blocks that were
    touched.
    """
    statement = STATEMENT.replace(":user_id", f"'{ANN}'::uuid").replace(
        ":position_id", f"'{position_id}'::uuid"
    )
    (explained,) = json.loads(
        await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
    )
    nodes, pending = [], [explained["Plan"]]
    while pending:
        node = pending.pop()
        pending += node.get("Plans", [])
        nodes.append(node)
    return nodes, explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"]

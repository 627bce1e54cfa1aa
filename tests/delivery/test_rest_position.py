"""One position by its id or by the id of any of its log rows, from a real database."""

from __future__ import annotations

import asyncio
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
from queries.migrations.run import migrate
from queries.position_by_id import STATEMENT
from realtime.delivery.http.account import BURST
from realtime.metrics import METRICS
from tests.delivery.platform import GOLD, NINE, Platform
from tests.delivery.rest_server import RestServer, rest_server
from tests.inbox import apply_inbox

ANN, BOB = uuid4(), uuid4()
LOG_ROWS = 100_000

_OLDER_TABLE = """
CREATE TABLE reconciliation_logs (
    id uuid PRIMARY KEY, user_id varchar(64), mt5_position_id integer, symbol varchar(20),
    direction varchar(8), volume double precision, entry_price double precision,
    current_price double precision, take_profit double precision, stop_loss double precision,
    matched integer, divergence_reason text, close_reason text, closed_price double precision,
    pnl_gbp double precision, event_type varchar(40), status varchar(20), error_message text,
    created_at timestamp, updated_at timestamp)
"""
_CUT_THE_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@pytest.fixture
async def platform(migrated_url: str) -> AsyncIterator[Platform]:
    connection = await asyncpg.connect(migrated_url)
    yield Platform(connection, applies=True)
    await connection.close()


@pytest.fixture
async def server(migrated_url: str) -> AsyncIterator[RestServer]:
    async with rest_server(migrated_url) as server:
        yield server


async def found(server: RestServer, position_id: object, user: UUID = ANN) -> dict[str, Any]:
    answer = await server.get(f"/api/v1/positions/{position_id}", user)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def test_an_open_position_has_every_field_of_the_contract(
    server: RestServer, platform: Platform
) -> None:
    position_id = await platform.log(ANN, 2**63 - 1)
    assert await found(server, position_id) == {
        "position_id": str(position_id),
        "ticket": 9223372036854775807,
        "last_updated_at": "2025-01-15T09:00:00.000000Z",
        **GOLD,
    }


async def test_a_closed_position_has_its_last_price_and_nothing_unrealized(
    server: RestServer, platform: Platform
) -> None:
    with_price, without = await platform.log(ANN, 1), await platform.log(ANN, 2)
    await platform.close(ANN, 1, closed_price=Decimal("1960.25"))
    await platform.close(ANN, 2)
    document = await found(server, with_price)
    assert (document["status"], document["current_price"]) == ("closed", 1960.25)
    assert (document["unrealized_pnl"], document["unrealized_pnl_pct"]) == (None, None)
    assert (await found(server, without))["current_price"] == 1955.75


async def test_the_current_price_is_the_entry_price_until_one_is_known(
    server: RestServer, platform: Platform
) -> None:
    position_id = await platform.log(ANN, 1, current_price=None)
    assert (await found(server, position_id))["current_price"] == 1950.5


@pytest.mark.parametrize(("matched", "with_bot"), [(0, False), (1, True), (2, False)])
async def test_the_answer_says_whether_bot_and_broker_agree(
    server: RestServer, platform: Platform, matched: int, with_bot: bool
) -> None:
    document = await found(server, await platform.log(ANN, 1, matched=matched))
    assert document["matched_with_bot"] is with_bot


async def test_the_id_of_any_log_row_of_the_ticket_leads_to_the_position(
    server: RestServer, platform: Platform
) -> None:
    first = await platform.log(ANN, 1)
    rows = [await platform.log(ANN, 1) for _ in range(3)]
    rows.append(await platform.close(ANN, 1))
    for row_id in rows:
        assert (await found(server, row_id))["position_id"] == str(first)
        assert (await found(server, str(row_id).upper()))["status"] == "closed"


async def test_an_older_table_with_users_as_text_and_small_tickets_is_looked_up_too(
    database_url: str,
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(_OLDER_TABLE)
    await migrate(database_url)
    platform = Platform(connection, applies=True)
    for user in (str(ANN).upper(), "{" + str(ANN) + "}", ANN.hex, "nobody", None):
        row_id = await platform.log(user, 7, created_at=NINE.replace(tzinfo=None))  # type: ignore[arg-type]
        async with rest_server(database_url) as server:
            answer = await server.get(f"/api/v1/positions/{row_id}", ANN)
            assert answer.status_code == (404 if user in ("nobody", None) else 200)
            assert (await server.get(f"/api/v1/positions/{row_id}", BOB)).status_code == 404
    await connection.close()


async def test_profit_is_in_the_accounts_currency_where_there_is_a_rate_and_else_says_which(
    server: RestServer, platform: Platform
) -> None:
    await platform.equity(ANN, 10_000)
    await platform.rate("EUR", "USD", "1.1")
    await platform.rate("USD", "GBP", "0.8")
    price = {"entry_price": Decimal(100), "current_price": Decimal(110), "volume": Decimal("1.01")}
    direct, inverse, none = [
        await platform.log(ANN, ticket, symbol=symbol, **price)
        for ticket, symbol in enumerate(("GER40", "UK100", "AUS200"), 1)
    ]
    told = [await found(server, position_id) for position_id in (direct, inverse, none)]
    assert [(each["unrealized_pnl"], each["pnl_currency"]) for each in told] == [
        (11.11, "USD"),
        (12.63, "USD"),  # 12.625: half away from zero
        (10.1, "AUD"),
    ]


async def test_another_users_an_unknown_and_a_useless_id_are_the_same_404(
    server: RestServer, platform: Platform
) -> None:
    await platform.log(ANN, 1)
    bobs = await platform.log(BOB, 1)
    guard = await platform.log(ANN, 99, event_type="guard_trigger", divergence_reason="gap")
    ids = [bobs, await platform.log(BOB, 1), uuid4(), await platform.log(ANN, None), guard]
    answers = [await server.get(f"/api/v1/positions/{each}", ANN, x_request_id="same") for each in ids]
    assert [answer.status_code for answer in answers] == [404] * 5
    assert len({json.dumps({**answer.json(), "instance": ""}) for answer in answers}) == 1
    headers = [
        {name: value for name, value in answer.headers.items() if name != "date"} for answer in answers
    ]
    assert all(each == headers[0] for each in headers)
    assert (await found(server, bobs, BOB))["position_id"] == str(bobs)


async def test_an_id_that_is_no_uuid_is_a_422(server: RestServer) -> None:
    for odd in ("1", "opne", "null", "0b8f5a524f0e4d6f9a572f1c3f6a7b2e", "%00", "'%3B--"):
        answer = await server.get(f"/api/v1/positions/{odd}", ANN)
        assert answer.status_code == 422
        assert "position_id" in answer.json()["detail"]


async def test_the_answer_carries_the_position_in_history_and_is_confirmed_by_it(
    server: RestServer, platform: Platform
) -> None:
    path = f"/api/v1/positions/{await platform.log(ANN, 1)}"
    epoch = await platform.connection.fetchval("SELECT epoch FROM guardwire.epoch")
    revision = await platform.connection.fetchval(
        "SELECT revision FROM guardwire.accounts WHERE user_id = $1", ANN
    )
    answer = await server.get(path, ANN)
    assert answer.headers["etag"] == f'"{wire_epoch(epoch)}:{revision}"'
    assert answer.headers["guardwire-revision"] == str(revision)
    assert answer.headers["guardwire-stale"] == "false"
    assert int(answer.headers["guardwire-age-ms"]) < 3_000
    assert (await server.get(path, ANN, if_none_match=answer.headers["etag"])).status_code == 304
    await platform.log(ANN, 2)
    again = await server.get(path, ANN, if_none_match=answer.headers["etag"])
    assert again.status_code == 200
    assert again.headers["etag"] != answer.headers["etag"]


async def test_an_answer_is_stale_while_rows_of_the_account_wait_to_be_applied(
    server: RestServer, migrated_url: str, platform: Platform
) -> None:
    anns, bobs = await platform.log(ANN, 1), await platform.log(BOB, 1)
    connection = await asyncpg.connect(migrated_url)
    await Platform(connection).close(ANN, 1)
    await connection.close()

    async def staleness(position_id: UUID, user: UUID) -> str:
        answer = await server.get(f"/api/v1/positions/{position_id}", user)
        return str(answer.headers["guardwire-stale"])

    async with asyncio.timeout(20):
        while await staleness(anns, ANN) == "false":
            await asyncio.sleep(0.1)
    assert await staleness(bobs, BOB) == "false"
    await apply_inbox(platform.connection)
    assert await staleness(anns, ANN) == "false"
    assert (await found(server, anns))["status"] == "closed"


async def test_a_user_who_asks_too_often_gets_a_time_to_wait_and_others_do_not(server: RestServer) -> None:
    path = f"/api/v1/positions/{uuid4()}"
    answers = await asyncio.gather(*(server.get(path, ANN) for _ in range(100)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(answers) - len(refused) >= BURST
    assert refused
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert refused[0].json()["type"] == "/api/v1/problems/too-many-requests"
    assert (await server.get(path, BOB)).status_code == 404


async def test_a_database_that_is_not_there_is_a_503_with_when_to_try_again() -> None:
    async with rest_server() as server:
        answer = await server.get(f"/api/v1/positions/{uuid4()}", ANN)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"


async def test_a_database_that_does_not_answer_is_a_503_in_a_few_seconds(
    server: RestServer, platform: Platform
) -> None:
    path = f"/api/v1/positions/{await platform.log(ANN, 1)}"
    async with platform.connection.transaction():
        await platform.connection.execute("LOCK TABLE guardwire.positions")
        async with asyncio.timeout(10):
            assert (await server.get(path, ANN)).status_code == 503
    assert (await server.get(path, ANN)).status_code == 200


async def test_connections_that_the_database_has_cut_are_replaced(
    server: RestServer, platform: Platform
) -> None:
    path = f"/api/v1/positions/{await platform.log(ANN, 1)}"
    assert (await server.get(path, ANN)).status_code == 200
    assert await platform.connection.fetch(_CUT_THE_OTHERS)
    statuses = [(await server.get(path, ANN)).status_code for _ in range(6)]
    assert set(statuses) <= {200, 503}
    assert statuses[-1] == 200


async def test_another_users_row_is_blocked_and_counted_even_if_the_statement_gave_it(
    server: RestServer, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    bobs = await platform.log(BOB, 1)
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
    platform: Platform,
) -> None:
    first, bobs = await platform.log(ANN, 1), await platform.log(BOB, 1)
    connection = platform.connection
    await connection.execute(
        "INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched)"
        " SELECT $1, n, 'sync', 1 FROM generate_series(2, 300) AS n",
        ANN,
    )
    await apply_inbox(connection)
    await connection.execute(
        "INSERT INTO guard_limits (user_id) SELECT gen_random_uuid() FROM generate_series(1, 3000)"
    )
    await apply_inbox(connection)
    # The length of the log is the point here and not its capture, which would take longer than the test.
    await connection.execute("ALTER TABLE reconciliation_logs DISABLE TRIGGER USER")
    await connection.execute(
        "INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type)"
        " SELECT $1, 1 + n % 300, 'sync' FROM generate_series(1, $2::integer) AS n",
        ANN,
        LOG_ROWS,
    )
    await connection.execute("ANALYZE")
    # The rows that were applied leave the inbox; housekeeping or autovacuum does this on a server.
    await connection.execute("VACUUM guardwire.inbox")
    row = await connection.fetchval("SELECT id FROM reconciliation_logs WHERE user_id = $1 OFFSET 77777", ANN)
    asked = {
        "own": first,
        "row": row,
        "bobs": bobs,
        "bobs row": await platform.log(BOB, 1),
        "unknown": uuid4(),
    }
    # A connection's first call of a function reads the catalogue.
    await plan(connection, first)
    plans = {name: await plan(connection, each) for name, each in asked.items()}
    for name, (nodes, first_blocks) in plans.items():
        # An analysis of some table in between makes one of two calls read the catalogue anew.
        blocks = min(first_blocks, (await plan(connection, asked[name]))[1])
        scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
        assert not scanned & {"reconciliation_logs", "positions", "accounts"}, name
        # 15 of them are read to know whether rows wait.
        assert blocks <= 40, name
    steps = [
        [(node["Node Type"], node["Actual Loops"]) for node in plans[name][0]]
        for name in ("bobs", "bobs row", "unknown")
    ]
    assert steps[0] == steps[1] == steps[2]


async def plan(connection: Any, position_id: UUID) -> tuple[list[dict[str, Any]], int]:
    """Every node of the plan of looking ``position_id`` up for ANN as it ran, and the blocks that were
    touched.
    """
    values = {":user_id": ANN, ":position_id": position_id}
    statement = re.sub(r":(?:user|position)_id", lambda name: f"'{values[name[0]]}'::uuid", STATEMENT)
    (explained,) = json.loads(
        await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
    )
    nodes, pending = [], [explained["Plan"]]
    while pending:
        node = pending.pop()
        pending += node.get("Plans", [])
        nodes.append(node)
    return nodes, explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"]

"""The documents over real HTTP: who gets them, when they are confirmed instead of sent, and how old they
say they are.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from queries.timestamps import iso
from realtime.delivery.http.operations import EXAMPLE_STATE
from realtime.history import Stored
from realtime.metrics import METRICS
from realtime.snapshot import Snapshot
from tests.delivery.rest_server import RestServer, rest_server

ANN, BOB = uuid4(), uuid4()

STATUS = "/api/v1/reconciliation/status"
OPEN = "/api/v1/positions/open"
GUARDS = "/api/v1/guards/status"
DOCUMENTS = (STATUS, OPEN, GUARDS)


@pytest.fixture
async def server() -> AsyncIterator[RestServer]:
    async with rest_server() as server:
        yield server


def state_with(**guards: Any) -> dict[str, Any]:
    state = copy.deepcopy(EXAMPLE_STATE)
    state["guards"]["drawdown"].update(guards)
    return state


def counting_down(seconds: float) -> dict[str, Any]:
    return state_with(liquidation_at=iso(datetime.now(UTC) + timedelta(seconds=seconds)))


def quiet() -> dict[str, Any]:
    state = state_with()
    del state["guards"]["drawdown"]["liquidation_at"]
    return state


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_a_document_is_of_the_tokens_user_and_says_how_old_it_is(server: RestServer, path: str) -> None:
    server.publish(ANN, quiet())
    answer = await server.get(path, ANN)
    assert answer.status_code == 200
    assert answer.json()["user_id"] == str(ANN)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["vary"] == "Authorization"
    assert answer.headers["etag"].removeprefix("W/") == '"17:7"'
    assert answer.headers["guardwire-revision"] == "7"


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_the_age_is_since_the_state_was_last_known_to_be_the_newest(
    server: RestServer, path: str
) -> None:
    snapshot = server.publish(ANN, quiet(), age_seconds=100)
    server.hub.reading(ANN).behind = True
    read = await server.get(path, ANN)
    assert read.headers["guardwire-as-of"] == snapshot.as_of
    assert 100_000 <= int(read.headers["guardwire-age-ms"]) < 110_000
    server.hub.reading(ANN).behind = False
    as_of = server.sweep(age_seconds=3)
    swept = await server.get(path, ANN)
    assert swept.headers["guardwire-as-of"] == as_of
    assert 3_000 <= int(swept.headers["guardwire-age-ms"]) < 13_000


@pytest.mark.parametrize(
    ("age_seconds", "stale"), [(0.0, "false"), (4.0, "false"), (5.1, "true"), (3600.0, "true")]
)
async def test_data_older_than_five_seconds_is_never_called_fresh(
    server: RestServer, age_seconds: float, stale: str
) -> None:
    server.publish(ANN, age_seconds=age_seconds)
    server.sweep(age_seconds=age_seconds)
    server.hub.reading(ANN).behind = True
    assert (await server.get(STATUS, ANN)).headers["guardwire-stale"] == stale


async def test_an_account_that_the_hub_doubts_is_stale_however_young_its_data(server: RestServer) -> None:
    server.publish(ANN)
    server.hub.reading(ANN).stale = True
    for headers in ({}, {"if_none_match": "*"}):
        assert (await server.get(STATUS, ANN, **headers)).headers["guardwire-stale"] == "true"


async def test_when_evaluated_is_when_the_database_last_showed_it(server: RestServer) -> None:
    server.publish(ANN, quiet(), age_seconds=60)
    first, second = server.sweep(age_seconds=2), ""
    assert (await server.get(GUARDS, ANN)).json()["last_evaluated_at"] == first
    second = server.sweep()
    assert (await server.get(GUARDS, ANN)).json()["last_evaluated_at"] == second


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_what_the_caller_holds_is_confirmed_and_not_sent_again(server: RestServer, path: str) -> None:
    server.publish(ANN, quiet())
    whole = await server.get(path, ANN)
    for held in (whole.headers["etag"], '"17:7"', 'W/"17:7"', '"17:6", "17:7"', "*"):
        answer = await server.get(path, ANN, if_none_match=held)
        assert (answer.status_code, answer.content) == (304, b"")
        assert "content-length" not in answer.headers
        for name in (
            "etag",
            "cache-control",
            "vary",
            "guardwire-as-of",
            "guardwire-age-ms",
            "guardwire-stale",
        ):
            assert name in answer.headers
    for held in ('"17:6"', '"18:7"', "nonsense", ""):
        assert (await server.get(path, ANN, if_none_match=held)).content == whole.content


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_another_revision_is_another_answer(server: RestServer, path: str) -> None:
    server.publish(ANN, quiet())
    held = (await server.get(path, ANN)).headers["etag"]
    server.publish(ANN, quiet(), revision=8)
    answer = await server.get(path, ANN, if_none_match=held)
    assert answer.status_code == 200
    assert answer.headers["etag"].removeprefix("W/") == '"17:8"'


async def test_the_tag_is_strong_where_the_revision_alone_decides_and_weak_where_the_clock_shows(
    server: RestServer,
) -> None:
    server.publish(ANN, quiet())
    tags = [(await server.get(path, ANN)).headers["etag"] for path in DOCUMENTS]
    assert tags == ['"17:7"', '"17:7"', 'W/"17:7"']


async def test_a_running_countdown_is_never_confirmed_by_304_once_it_moved_on(server: RestServer) -> None:
    server.publish(ANN, counting_down(30.5))
    first = await server.get(GUARDS, ANN)
    left = first.json()["drawdown_guard"]["time_to_liquidation_seconds"]
    assert left in (29, 30)
    assert first.headers["etag"] == f'W/"17:7:{left}"'
    async with asyncio.timeout(5):
        while (
            again := await server.get(GUARDS, ANN, if_none_match=first.headers["etag"])
        ).status_code == 304:
            await asyncio.sleep(0.02)
    assert again.json()["drawdown_guard"]["time_to_liquidation_seconds"] == left - 1
    assert again.headers["etag"] == f'W/"17:7:{left - 1}"'


async def test_a_countdown_that_is_over_is_zero_and_stays_so(server: RestServer) -> None:
    server.publish(ANN, counting_down(-3600))
    answer = await server.get(GUARDS, ANN)
    assert answer.json()["drawdown_guard"]["time_to_liquidation_seconds"] == 0
    assert (await server.get(GUARDS, ANN, if_none_match=answer.headers["etag"])).status_code == 304


async def test_the_countdown_goes_by_the_databases_clock_however_wrong_this_machines_is(
    server: RestServer,
) -> None:
    ahead = timedelta(days=3)
    watch = server.hub.reading(ANN)
    database_now = datetime.now(UTC) + ahead
    state = state_with(liquidation_at=iso(database_now + timedelta(seconds=60.9)))
    as_of = iso(database_now)
    snapshot = Snapshot(user_id=ANN, epoch=17, revision=7, as_of=as_of, state=state)
    watch.advance(snapshot, None, as_of=as_of, read_at=asyncio.get_running_loop().time())
    answer = await server.get(GUARDS, ANN)
    assert answer.json()["drawdown_guard"]["time_to_liquidation_seconds"] in (59, 60)


@pytest.mark.parametrize("path", [*DOCUMENTS, "/api/v1/trading/health", "/api/v1/openapi.json"])
async def test_head_has_the_length_and_no_body(server: RestServer, path: str) -> None:
    server.publish(ANN, quiet())
    whole, head = await server.get(path, ANN), await server.get(path, ANN, method="HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
    assert head.headers.get("etag") == whole.headers.get("etag")


async def test_one_symbol_is_asked_for_by_its_name(server: RestServer) -> None:
    server.publish(ANN)
    for symbol, found in (("XAUUSD", 1), ("xauusd", 1), ("EURUSD", 0), ("xauus", 0)):
        document = (await server.get(f"{OPEN}?symbol={symbol}", ANN)).json()
        assert document["total_positions"] == len(document["positions"]) == found


@pytest.mark.parametrize("symbol", ["", "A" * 21, "XAU%20USD", "%27%3B--", "XAUUSD&symbol=EURUSD", "%C3%89"])
async def test_a_symbol_that_names_nothing_is_a_422(server: RestServer, symbol: str) -> None:
    server.publish(ANN)
    answer = await server.get(f"{OPEN}?symbol={symbol}", ANN)
    assert answer.status_code == 422
    assert answer.json()["type"] == "/api/v1/problems/invalid-parameter"
    assert "symbol" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("authorization", "error"),
    [
        (None, None),
        ("Bearer", "invalid_token"),
        ("Bearer a b", "invalid_token"),
        ("Bearer not.a.token", "invalid_token"),
        ("Basic dXNlcjpwYXNz", "invalid_token"),
        ("Bearer " + "x" * 9000, "invalid_token"),
    ],
)
async def test_without_a_good_token_every_document_is_a_401_and_no_account_is_watched(
    server: RestServer, authorization: str | None, error: str | None
) -> None:
    headers = {"authorization": authorization} if authorization else {}
    for path in (*DOCUMENTS, f"/api/v1/positions/{uuid4()}", "/api/v1/positions/nonsense", f"{OPEN}?symbol="):
        answer = await server.client.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["type"] == "/api/v1/problems/unauthenticated"
        challenge = answer.headers["www-authenticate"]
        assert challenge.startswith('Bearer realm="guardwire"')
        assert (f'error="{error}"' in challenge) if error else ("error" not in challenge)
    assert not list(server.hub.watched())


async def test_an_expired_token_is_a_401(server: RestServer) -> None:
    token = server.key.issue(ANN, ttl_seconds=0.001)
    await asyncio.sleep(0)
    answer = await server.client.get(STATUS, headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 401


async def test_a_token_in_the_url_is_refused_even_beside_a_good_one(server: RestServer) -> None:
    server.publish(ANN)
    answer = await server.get(f"{STATUS}?token={server.key.issue(ANN)}", ANN)
    assert answer.status_code == 401
    assert "URL" in answer.json()["detail"]


async def test_health_needs_no_token_and_touches_nothing(server: RestServer) -> None:
    answer = await server.client.get("/api/v1/trading/health")
    document = answer.json()
    assert document == {"status": "healthy", "timestamp": document["timestamp"], "service": "trading-api"}
    assert document["timestamp"].endswith("Z")
    assert abs(datetime.fromisoformat(document["timestamp"]) - datetime.now(UTC)) < timedelta(seconds=5)
    assert not list(server.hub.watched())


async def test_an_account_is_watched_after_a_read_so_that_the_next_costs_nothing(server: RestServer) -> None:
    asked = asyncio.create_task(server.get(STATUS, ANN))
    while not list(server.hub.watched()):
        await asyncio.sleep(0.005)
    assert list(server.hub.watched()) == [(ANN, -1)]
    server.publish(ANN)
    assert (await asked).status_code == 200


async def test_with_neither_database_nor_snapshot_the_answer_is_a_503_with_when_to_try_again(
    server: RestServer,
) -> None:
    server.sweep(age_seconds=60)
    answer = await server.get(STATUS, ANN)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["type"] == "/api/v1/problems/unavailable"


class OneRemembered:
    """A store that remembers one account."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self.available = True

    async def load(self, user_ids: list[UUID]) -> dict[UUID, Stored]:
        return dict.fromkeys(user_ids, self._stored)


def remembered(owner: UUID) -> OneRemembered:
    snapshot = Snapshot(
        user_id=owner, epoch=17, revision=5, as_of="2025-01-15T10:00:00.000000Z", state=counting_down(45.5)
    )
    return OneRemembered(Stored(snapshot, ()))


async def test_what_another_process_read_is_served_as_stale_and_of_unknown_age() -> None:
    async with rest_server(store=remembered(ANN)) as server:
        server.sweep(age_seconds=60)
        answer = await server.get(GUARDS, ANN)
        assert answer.status_code == 200
        assert answer.headers["guardwire-stale"] == "true"
        assert answer.headers["guardwire-as-of"] == "2025-01-15T10:00:00.000000Z"
        assert "guardwire-age-ms" not in answer.headers
        # Nothing better than this machine's clock is known then.
        assert answer.json()["drawdown_guard"]["time_to_liquidation_seconds"] in (43, 44, 45)


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_another_users_snapshot_planted_in_the_hub_is_blocked_counted_and_logged(
    server: RestServer, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.publish(ANN, owner=BOB)
    blocked = METRICS.cross_user_blocked.get()
    with caplog.at_level(logging.CRITICAL):
        answer = await server.get(path, ANN)
    assert answer.status_code == 503
    assert str(BOB) not in answer.text
    assert METRICS.cross_user_blocked.get() == blocked + 1
    assert [record for record in caplog.records if "another account" in record.getMessage()]


async def test_another_users_snapshot_planted_in_the_store_is_blocked_too() -> None:
    async with rest_server(store=remembered(BOB)) as server:
        server.sweep(age_seconds=60)
        answer = await server.get(STATUS, ANN)
        assert answer.status_code in (500, 503)
        assert str(BOB) not in answer.text


async def test_a_document_is_encoded_once_for_a_snapshot(server: RestServer) -> None:
    snapshot = server.publish(ANN, quiet())
    for _ in range(2):
        for path in DOCUMENTS:
            assert (await server.get(path, ANN)).status_code == 200
            assert (await server.get(f"{OPEN}?symbol=XAUUSD", ANN)).status_code == 200
    kept = dict(snapshot.documents)
    for path in DOCUMENTS:
        await server.get(path, ANN)
    assert all(snapshot.documents[name] is kept[name] for name in ("status", "positions"))
    assert len(snapshot.documents) == len(kept) == 4


async def test_many_users_at_once_each_get_their_own(server: RestServer) -> None:
    users = [uuid4() for _ in range(50)]
    for user in users:
        server.publish(user, quiet())
    reads = [(user, path) for user in users for path in DOCUMENTS]
    answers = await asyncio.gather(*(server.get(path, user) for user, path in reads))
    assert [answer.json()["user_id"] for answer in answers] == [str(user) for user, _ in reads]


async def test_a_caller_cannot_name_another_user(server: RestServer) -> None:
    server.publish(ANN, quiet())
    server.publish(BOB, quiet())
    for query in (f"?user_id={BOB}", f"?user={BOB}", f"?sub={BOB}"):
        assert (await server.get(STATUS + query, ANN)).json()["user_id"] == str(ANN)
    answer = await server.client.get(STATUS, headers={**server.authorization(ANN), "x-user-id": str(BOB)})
    assert answer.json()["user_id"] == str(ANN)

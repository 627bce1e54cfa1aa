"""REST of alerts, arming, escalation and webhooks, on a real database; every answer is as the OpenAPI says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from auth.identity import ACK_SCOPE, MANAGE_SCOPE
from realtime.delivery.alerts import BURST
from realtime.delivery.http.alerts import MOST_ENDPOINTS
from tests.delivery.rest_server import RestServer, rest_server
from tests.delivery.test_openapi import check
from tests.queries.database_writer import DatabaseWriter

HOOK = {"url": "https://desk.example/alerts", "description": "the desk"}


@pytest.fixture
async def writer(migrated_url: str) -> AsyncIterator[DatabaseWriter]:
    connection = await asyncpg.connect(migrated_url)
    yield DatabaseWriter(connection)
    await connection.close()


@pytest.fixture
async def server(migrated_url: str) -> AsyncIterator[RestServer]:
    async with rest_server(migrated_url) as server:
        yield server


async def asked(
    server: RestServer,
    method: str,
    path: str,
    user: UUID,
    *scopes: str,
    body: Any = None,
    status: int = 200,
) -> Any:
    """The document of the answer, which has ``status`` and is as the OpenAPI describes it."""
    answer = await server.send(method, path, user, *scopes, body=body)
    assert answer.status_code == status, answer.text
    check(answer, template(path))
    return answer.json()


def template(path: str) -> str:
    """The path of the OpenAPI document."""
    first, *rest = path.partition("?")[0].split("/")
    return "/".join(["/api/v1", first, *(["{id}"] if rest else []), *rest[1:]])


async def raised(server: RestServer, writer: DatabaseWriter) -> str:
    await writer.equity(10_000)
    await writer.equity(8_000, 1)
    (alert,) = (await asked(server, "GET", "alerts", writer.user_id))["alerts"]
    return str(alert["alert_id"])


async def test_alerts_are_listed_by_whether_they_are_open(server: RestServer, writer: DatabaseWriter) -> None:
    alert = await raised(server, writer)
    user = writer.user_id
    (listed,) = (await asked(server, "GET", "alerts?open=true", user))["alerts"]
    assert (listed["alert_id"], listed["kind"], listed["observed"]) == (alert, "drawdown", 20.0)
    assert (await asked(server, "GET", "alerts?open=false", user))["alerts"] == []
    await writer.equity(10_000, 2)
    done = {"generation": 1, "as": "closer-1"}
    await asked(server, "POST", f"alerts/{alert}/ack", user, ACK_SCOPE, body=done)
    assert (await asked(server, "GET", "alerts?open=true", user))["alerts"] == []
    assert len((await asked(server, "GET", "alerts?open=false", user))["alerts"]) == 1
    assert (await asked(server, "GET", "alerts", uuid4()))["alerts"] == []
    await asked(server, "GET", "alerts?open=maybe", user, status=422)


async def test_an_acknowledgement_is_answered_the_same_each_time_and_logged_once(
    server: RestServer, writer: DatabaseWriter
) -> None:
    alert, user = await raised(server, writer), writer.user_id
    path = f"alerts/{alert}/ack"
    first = await asked(server, "POST", path, user, ACK_SCOPE, body={"generation": 1, "as": "a"})
    again = await asked(server, "POST", path, user, ACK_SCOPE, body={"generation": 1, "as": "b"})
    assert first == again
    history = await asked(server, "GET", f"alerts/{alert}", user)
    assert history["alert"]["acknowledged_by"] == "a"
    assert [(each["entry"], each["who"]) for each in history["log"]] == [
        ("raised", None),
        ("acknowledged", "a"),
    ]
    await asked(server, "POST", path, user, ACK_SCOPE, body={"generation": 2, "as": "a"}, status=409)


async def test_a_snooze_needs_a_reason_and_ends_within_an_hour(
    server: RestServer, writer: DatabaseWriter
) -> None:
    alert, user = await raised(server, writer), writer.user_id
    good = {"generation": 1, "seconds": 600, "as": "ana", "reason": "by hand"}
    await asked(server, "POST", f"alerts/{alert}/snooze", user, ACK_SCOPE, body=good)
    assert (await asked(server, "GET", f"alerts/{alert}", user))["alert"]["snoozed_until"] is not None
    for wrong in ({"seconds": 3_601}, {"seconds": 0}, {"reason": " "}, {"as": ""}, {"more": 1}):
        await asked(server, "POST", f"alerts/{alert}/snooze", user, ACK_SCOPE, body=good | wrong, status=422)
    await asked(
        server, "POST", f"alerts/{alert}/snooze", user, ACK_SCOPE, body=good | {"generation": 2}, status=409
    )


def same_but_for_the_request(answer: httpx.Response) -> tuple[int, Any, Any]:
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
    headers.pop("content-length")
    document = answer.json()
    del document["request_id"], document["instance"]
    return answer.status_code, headers, document


async def test_what_belongs_to_another_account_is_answered_as_what_nobody_has(
    server: RestServer, writer: DatabaseWriter
) -> None:
    alert = await raised(server, writer)
    hook = (await asked(server, "POST", "webhooks", writer.user_id, MANAGE_SCOPE, body=HOOK))["endpoint_id"]
    ack = {"generation": 1, "as": "a"}
    snooze = {"generation": 1, "seconds": 60, "as": "a", "reason": "no"}
    requests: list[tuple[str, str, str, Any]] = [
        ("GET", "alerts/{}", alert, None),
        ("POST", "alerts/{}/ack", alert, ack),
        ("POST", "alerts/{}/snooze", alert, snooze),
        ("GET", "webhooks/{}", hook, None),
        ("PATCH", "webhooks/{}", hook, {"enabled": False}),
        ("PATCH", "webhooks/{}", hook, {"url": "https://evil.example/"}),
        ("DELETE", "webhooks/{}", hook, None),
        ("POST", "webhooks/{}/test", hook, None),
        ("POST", "webhooks/{}/rotate", hook, None),
        ("POST", "webhooks/{}/redeliver", hook, {"delivery_id": 1}),
    ]
    other = uuid4()
    for method, path, theirs, body in requests:
        answers = [
            await server.send(method, path.format(each), other, ACK_SCOPE, MANAGE_SCOPE, body=body)
            for each in (theirs, str(uuid4()), "nonsense")
        ]
        assert answers[0].status_code == 404, (method, path)
        assert len({repr(same_but_for_the_request(each)) for each in answers}) == 1, (method, path)
        check(answers[0], template(path))
    history = await asked(server, "GET", f"webhooks/{hook}", writer.user_id, MANAGE_SCOPE)
    assert (history["endpoint"]["url"], history["endpoint"]["disabled_at"]) == (HOOK["url"], None)


async def test_what_changes_something_and_what_shows_addresses_needs_a_scope(server: RestServer) -> None:
    user, some = uuid4(), uuid4()
    for method, path, scope in (
        ("POST", f"alerts/{some}/ack", ACK_SCOPE),
        ("POST", f"alerts/{some}/snooze", ACK_SCOPE),
        ("PUT", "arming", MANAGE_SCOPE),
        ("PUT", "escalation", MANAGE_SCOPE),
        ("GET", "webhooks", MANAGE_SCOPE),
        ("POST", "webhooks", MANAGE_SCOPE),
        ("GET", f"webhooks/{some}", MANAGE_SCOPE),
        ("PATCH", f"webhooks/{some}", MANAGE_SCOPE),
        ("DELETE", f"webhooks/{some}", MANAGE_SCOPE),
        ("POST", f"webhooks/{some}/test", MANAGE_SCOPE),
        ("POST", f"webhooks/{some}/rotate", MANAGE_SCOPE),
        ("POST", f"webhooks/{some}/redeliver", MANAGE_SCOPE),
    ):
        other = {ACK_SCOPE, MANAGE_SCOPE} - {scope}
        refused = await asked(server, method, path, user, *other, body={}, status=403)
        assert scope in refused["detail"]
        answer = await server.client.request(method, f"/api/v1/{path}")
        assert answer.status_code == 401


async def test_an_account_is_armed_and_disarmed_for_a_time(
    server: RestServer, writer: DatabaseWriter
) -> None:
    await writer.equity(10_000)
    user = writer.user_id
    assert (await asked(server, "GET", "arming", user))["armed"] is False
    armed = await asked(server, "PUT", "arming", user, MANAGE_SCOPE, body={"armed": True, "as": "ana"})
    assert (armed["armed"], armed["changed_by"]) == (True, "ana")
    until = datetime.now(UTC) + timedelta(hours=2)
    off = {"armed": False, "as": "ana", "until": until.isoformat(), "reason": "maintenance"}
    disarmed = await asked(server, "PUT", "arming", user, MANAGE_SCOPE, body=off)
    assert (disarmed["armed"], disarmed["reason"]) == (False, "maintenance")
    for wrong in (
        {"until": (until + timedelta(hours=23)).isoformat()},
        {"until": None},
        {"until": "2026-01-01T00:00:00"},
        {"reason": None},
    ):
        await asked(server, "PUT", "arming", user, MANAGE_SCOPE, body=off | wrong, status=422)
    assert await asked(server, "GET", "arming", user) == disarmed


async def test_a_policy_changes_in_the_values_that_are_given(server: RestServer) -> None:
    user = uuid4()
    before = await asked(server, "GET", "escalation", user)
    after = await asked(server, "PUT", "escalation", user, MANAGE_SCOPE, body={"webhook_after_seconds": 5})
    assert after == before | {"webhook_after_seconds": 5}
    assert await asked(server, "GET", "escalation", user) == after
    for wrong in ({"repeat_seconds": 1}, {"webhook_after": 5}, {"hold_seconds": "60"}):
        await asked(server, "PUT", "escalation", user, MANAGE_SCOPE, body=wrong, status=422)


async def test_a_webhook_lives_and_its_secret_is_shown_when_it_is_made_and_rotated(
    server: RestServer,
) -> None:
    user = uuid4()
    added = await asked(server, "POST", "webhooks", user, MANAGE_SCOPE, body=HOOK)
    assert added["secret"].startswith("whsec_")
    path = f"webhooks/{added['endpoint_id']}"
    listed = await asked(server, "GET", "webhooks", user, MANAGE_SCOPE)
    assert [each["url"] for each in listed["endpoints"]] == [HOOK["url"]]
    history = await asked(server, "GET", path, user, MANAGE_SCOPE)
    rotated = await asked(server, "POST", f"{path}/rotate", user, MANAGE_SCOPE)
    assert rotated["secret"].startswith("whsec_")
    assert rotated["secret"] != added["secret"]
    for document in (listed, history, await asked(server, "GET", path, user, MANAGE_SCOPE)):
        assert "whsec_" not in repr(document)
    sent = await asked(server, "POST", f"{path}/test", user, MANAGE_SCOPE)
    (message,) = (await asked(server, "GET", path, user, MANAGE_SCOPE))["deliveries"]
    assert (message["delivery_id"], message["outcome"]) == (sent["delivery_id"], None)
    again = {"delivery_id": sent["delivery_id"]}
    await asked(server, "POST", f"{path}/redeliver", user, MANAGE_SCOPE, body=again, status=409)
    changed = await asked(server, "PATCH", path, user, MANAGE_SCOPE, body={"enabled": False})
    assert changed["endpoint"]["disabled_at"] is not None
    await asked(server, "POST", f"{path}/test", user, MANAGE_SCOPE, status=409)
    await asked(server, "DELETE", path, user, MANAGE_SCOPE)
    await asked(server, "GET", path, user, MANAGE_SCOPE, status=404)


async def test_a_person_has_no_secret(server: RestServer) -> None:
    user, body = uuid4(), HOOK | {"kind": "person"}
    added = await asked(server, "POST", "webhooks", user, MANAGE_SCOPE, body=body)
    assert added["secret"] is None
    await asked(server, "POST", f"webhooks/{added['endpoint_id']}/rotate", user, MANAGE_SCOPE, status=409)


async def test_an_address_that_may_not_be_called_is_refused_when_it_is_written(server: RestServer) -> None:
    user, wrong = uuid4(), HOOK | {"url": "http://desk.example/"}
    refused = await asked(server, "POST", "webhooks", user, MANAGE_SCOPE, body=wrong, status=422)
    assert refused["detail"] == "`url` must begin with https://."
    added = await asked(server, "POST", "webhooks", user, MANAGE_SCOPE, body=HOOK)
    path = f"webhooks/{added['endpoint_id']}"
    await asked(server, "PATCH", path, user, MANAGE_SCOPE, body={"url": wrong["url"]}, status=422)


async def test_an_account_has_so_many_webhooks_and_no_more(
    server: RestServer, writer: DatabaseWriter
) -> None:
    user = uuid4()
    await writer.execute(
        "INSERT INTO guardwire.endpoints (user_id, kind, url)"
        " SELECT $1, 'webhook', 'https://desk.example/' FROM generate_series(1, $2)",
        user,
        MOST_ENDPOINTS,
    )
    await asked(server, "POST", "webhooks", user, MANAGE_SCOPE, body=HOOK, status=409)


async def test_requests_beyond_the_rate_are_told_to_wait(server: RestServer) -> None:
    user = uuid4()
    # All at once, because the rate grants more for each moment that passes.
    asked = (server.send("GET", "alerts?open=x", user) for _ in range(3 * BURST))
    answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers].count(422) >= BURST
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    check(refused[0], "/api/v1/alerts")


async def test_without_a_database_each_request_is_told_to_come_back() -> None:
    async with rest_server() as server:
        answer = await server.send("GET", "alerts", uuid4())
        assert answer.status_code == 503
        check(answer, "/api/v1/alerts")

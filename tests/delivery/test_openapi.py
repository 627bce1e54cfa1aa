"""The OpenAPI document: complete, sound, and true of what is really answered."""

from __future__ import annotations

import copy
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import jsonschema
import pytest
from starlette.routing import Route

from app import Development, build
from auth.development import DevelopmentKey
from realtime.delivery.http.alert_operations import ALERT_OPERATIONS
from realtime.delivery.http.openapi import describe
from realtime.delivery.http.operations import (
    EXAMPLE_STATE,
    REST_OPERATIONS,
    SERVICE_OPERATIONS,
    STREAM_OPERATIONS,
)
from realtime.delivery.http.problems import TYPES, UPGRADE_REQUIRED
from realtime.settings import Settings
from tests.delivery.rest_server import RestServer, rest_server

ANN = uuid4()
DOCUMENT = describe([*REST_OPERATIONS, *ALERT_OPERATIONS, *STREAM_OPERATIONS, *SERVICE_OPERATIONS])

#: Pages for people and their modules, which no program calls.
#: Not of the HTTP interface: pages, and the WebSocket, which asyncapi.json describes.
PAGES = {"/", "/demo/token", "/ws"}

#: The strictest reading: a field that the document does not name is an error.
STRICT = copy.deepcopy(DOCUMENT)
for schema in STRICT["components"]["schemas"].values():
    if schema.get("type") == "object" and "properties" in schema:
        schema["additionalProperties"] = False


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in STRICT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def contents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, method, operation in operations():
        described = [operation["requestBody"]] if "requestBody" in operation else []
        for each in [*described, *operation["responses"].values()]:
            for content in each.get("content", {}).values():
                yield f"{method} {path}", content


def validate(value: Any, schema: dict[str, Any]) -> None:
    resolvable = {**schema, "components": STRICT["components"]}
    jsonschema.Draft202012Validator(resolvable, format_checker=jsonschema.FormatChecker()).validate(value)


def response_of(answer: httpx.Response, template: str) -> dict[str, Any]:
    operation = STRICT["paths"][template][answer.request.method.lower()]
    described: dict[str, Any] = operation["responses"][str(answer.status_code)]
    return described


def check(answer: httpx.Response, template: str) -> None:
    """Fail unless ``answer`` is one that the document describes for ``template``: body, type and headers."""
    described = response_of(answer, template)
    if "content" in described:
        media_type = answer.headers["content-type"].partition(";")[0]
        validate(answer.json(), described["content"][media_type]["schema"])
    else:
        assert not answer.content
    for name, reference in described.get("headers", {}).items():
        header = STRICT["components"]["headers"][reference["$ref"].rpartition("/")[2]]
        text = answer.headers[name]
        validate(int(text) if header["schema"]["type"] == "integer" else text, header["schema"])


@pytest.fixture
async def server(migrated_url: str) -> AsyncIterator[RestServer]:
    async with rest_server(migrated_url) as server:
        yield server


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    found = 0
    pending: list[Any] = [DOCUMENT]
    while pending:
        value = pending.pop()
        pending += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        if isinstance(value, dict) and isinstance(value.get("$ref"), str):
            target: Any = DOCUMENT
            for part in value["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            found += 1
    assert found > 50


def test_every_operation_has_a_name_of_its_own_a_summary_and_an_answer() -> None:
    identifiers = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(identifiers)) == len(identifiers)
    for path, _, operation in operations():
        assert operation["summary"]
        assert {"200", "405", "500"} <= operation["responses"].keys()
        named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))


def test_every_example_is_valid() -> None:
    checked = 0
    for where, content in contents():
        assert "example" in content, where
        validate(content["example"], content["schema"])
        checked += 1
    assert checked > 40


def test_the_checks_of_these_tests_can_fail() -> None:
    content = STRICT["paths"]["/api/v1/guards/status"]["get"]["responses"]["200"]["content"][
        "application/json"
    ]
    for wrong in (
        {**content["example"], "extra": 1},
        {name: value for name, value in content["example"].items() if name != "drawdown_guard"},
        {**content["example"], "system_status": "splendid"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            validate(wrong, content["schema"])


def test_the_contracts_check_values_are_the_examples() -> None:
    listed = STRICT["paths"]["/api/v1/positions/open"]["get"]["responses"]["200"]["content"][
        "application/json"
    ]
    (gold,) = listed["example"]["positions"]
    assert (gold["symbol"], gold["unrealized_pnl"], gold["unrealized_pnl_pct"]) == ("XAUUSD", 52.5, 0.27)


def test_every_route_of_the_application_is_in_the_document_and_the_reverse() -> None:
    settings = Settings(mode="development", database_url="postgresql://nobody@127.0.0.1:1/nothing")
    app = build(settings, development=Development(key=DevelopmentKey(secrets.token_hex(32))))
    served = {
        (route.path, method.lower())
        for route in app.router.routes
        if isinstance(route, Route) and route.path not in PAGES
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert served == {(path, method) for path, method, _ in operations()}


async def test_what_is_served_is_the_document(server: RestServer) -> None:
    answer = await server.client.get("/api/v1/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == DOCUMENT
    held = answer.headers["etag"]
    assert (
        await server.client.get("/api/v1/openapi.json", headers={"if-none-match": held})
    ).status_code == 304


@pytest.mark.parametrize(
    "path", ["/api/v1/reconciliation/status", "/api/v1/positions/open", "/api/v1/guards/status"]
)
async def test_every_answer_about_an_account_is_as_described(server: RestServer, path: str) -> None:
    server.publish(ANN)
    answers = [
        await server.get(path, ANN),
        await server.get(path, ANN, if_none_match="*"),
        await server.client.get(path),
    ]
    server.sweep(age_seconds=60)
    answers.append(await server.get(path, uuid4()))
    assert [answer.status_code for answer in answers] == [200, 304, 401, 503]
    for answer in answers:
        check(answer, path)


async def test_the_smallest_account_is_as_described_too(server: RestServer) -> None:
    empty = copy.deepcopy(EXAMPLE_STATE)
    empty["status"] = {
        **dict.fromkeys(
            ("total_syncs", "open_positions_count", "matched_positions", "divergences_detected"), 0
        ),
        "status": "unknown",
        "source": "silent",
        "recent_events": {},
    }
    empty["positions"] = {"total_positions": 0, "open": {}}
    empty["guards"]["alerts"] = {}
    drawdown = empty["guards"]["drawdown"]
    for name in (
        "current_equity",
        "peak_equity",
        "current_drawdown_pct",
        "currency",
        "liquidation_at",
        "last_checked_at",
    ):
        del drawdown[name]
    drawdown["alert_type"] = "unknown"
    server.publish(ANN, empty)
    for path in ("/api/v1/reconciliation/status", "/api/v1/positions/open", "/api/v1/guards/status"):
        check(await server.get(path, ANN), path)


async def test_refusals_of_parameters_are_as_described(server: RestServer) -> None:
    server.publish(ANN)
    by_id = "/api/v1/positions/{position_id}"
    for path, template, status in (
        ("/api/v1/positions/open?symbol=%20", "/api/v1/positions/open", 422),
        ("/api/v1/positions/nonsense", by_id, 422),
        (f"/api/v1/positions/{uuid4()}", by_id, 404),
        ("/api/v1/problems/nonsense", "/api/v1/problems/{name}", 404),
    ):
        answer = await server.get(path, ANN)
        assert answer.status_code == status
        check(answer, template)


async def test_answers_that_need_no_token_are_as_described(server: RestServer) -> None:
    for path, template in (
        ("/api/v1/trading/health", "/api/v1/trading/health"),
        ("/api/v1/openapi.json", "/api/v1/openapi.json"),
        ("/api/v1/problems", "/api/v1/problems"),
        *((f"/api/v1/problems/{quote(name)}", "/api/v1/problems/{name}") for name in TYPES),
    ):
        answer = await server.client.get(path)
        assert answer.status_code == 200
        check(answer, template)


def test_every_type_of_problem_that_the_document_names_is_explained() -> None:
    named = {
        content["example"]["type"]
        for _, content in contents()
        if isinstance(content["example"], dict) and "instance" in content["example"]
    }
    # A handshake alone ends in that one, and asyncapi.json describes handshakes.
    assert named == {kind.uri for kind in TYPES.values()} - {UPGRADE_REQUIRED.uri}

"""Requests drawn from the published OpenAPI document, good and bad: the document describes each answer."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from auth.identity import ADMIN_SCOPE
from tests.auth.issuer import secret_token
from tests.operations.server_process import server_process

#: The number of requests of each operation and kind, with and without a token.
EXAMPLES: Final = 8
SEED: Final = 20260105
#: This operation has no end; its requests are those of /api/v1/state, which are drawn.
ENDLESS: Final = "/api/v1/stream"
DEADLINE_SECONDS: Final = 10.0
#: Unknown parameters and headers are ignored, so this check of the library does not apply.
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.mark.timeout(150)
async def test_each_answer_is_one_that_the_openapi_document_describes(
    migrated_url: str, redis_url: str, tmp_path: Path
) -> None:
    limits = {"GUARDWIRE_MAX_SOCKETS_PER_USER": "1000"}
    async with server_process(migrated_url, redis_url, tmp_path, limits) as server:
        asked = await asyncio.to_thread(fuzz, server.url)
        errors = [line for line in server.lines() if line["level"] in ("ERROR", "CRITICAL")]
    assert errors == []
    # Without any request, nothing could be wrong.
    assert len(asked) >= 10
    assert sum(asked.values()) >= 8 * EXAMPLES, asked


def fuzz(url: str) -> dict[str, int]:
    """Draw requests of every operation, and validate the answers; returns the number of requests of each operation."""
    schema = schemathesis.openapi.from_url(f"{url}/api/v1/openapi.json")
    schema.config.update(base_url=url)
    asked: dict[str, int] = {}
    for found in schema.get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]
        if operation.path == ENDLESS:
            continue
        for mode in GenerationMode:
            # A request of an operation without parameters cannot be wrong.
            with contextlib.suppress(Unsatisfiable):
                ask(operation.as_strategy(generation_mode=mode), asked)
    return asked


def ask(cases: Any, asked: dict[str, int]) -> None:
    tokens = st.sampled_from(
        [None, secret_token(sub=str(uuid4())), secret_token(sub=str(uuid4()), scope=ADMIN_SCOPE)]
    )

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, token=tokens)
    def one(case: Any, token: str | None) -> None:
        name = f"{case.method} {case.path}"
        asked[name] = asked.get(name, 0) + 1
        if "wait" in case.query and _is_long(case.query["wait"]):
            case.query["wait"] = 0
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        case.call_and_validate(headers=headers, timeout=DEADLINE_SECONDS, checks=CHECKS)

    one()


def _is_long(wait: object) -> bool:
    try:
        return float(str(wait)) > 0
    except ValueError:
        return False

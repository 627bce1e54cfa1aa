"""Log lines about clients that come and go: on demand, with user and session, and never with a token."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.auth.issuer import USER, secret_token
from tests.operations.server_process import server_process


def about(lines: list[dict[str, Any]], words: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["message"] == words]


@pytest.mark.parametrize("level", ["INFO", "ERROR"])
async def test_each_stream_that_begins_and_ends_is_a_line_where_it_is_asked_for(
    migrated_url: str, redis_url: str, empty_folder: Path, level: str
) -> None:
    variables = {"GUARDWIRE_LOG_CONNECTIONS": "1", "GUARDWIRE_LOG_LEVEL": level}
    async with server_process(migrated_url, redis_url, empty_folder, variables) as server:
        async with connect(server.stream_url) as socket:
            await socket.send(json.dumps({"type": "hello", "token": secret_token()}))
            session = json.loads(await socket.recv())["session"]
        await server.says(lambda line: line["message"] == "a WebSocket has ended")
        headers = {"Authorization": f"Bearer {secret_token()}"}
        async with (
            httpx.AsyncClient(base_url=server.url, headers=headers, timeout=20) as client,
            client.stream("GET", "/api/v1/stream") as stream,
        ):
            await anext(stream.aiter_lines())
        await server.says(lambda line: line["message"] == "an event stream has ended")
        async with connect(server.stream_url) as socket:
            await socket.send('{"type": "hello", "token": "none"}')
            with pytest.raises(Exception, match="4401"):
                await socket.recv()
        await server.says(lambda line: line["message"] == "a WebSocket is closed")
        lines = server.lines()
    (begun,), (ended,) = about(lines, "a WebSocket begins"), about(lines, "a WebSocket has ended")
    assert begun["level"] == ended["level"] == "INFO"
    assert begun["user"] == ended["user"] == str(USER)
    assert begun["session_id"] == ended["session_id"] == session
    assert ended["duration_ms"] >= 0
    assert [line["user"] for line in about(lines, "an event stream begins")] == [str(USER)]
    (closed,) = about(lines, "a WebSocket is closed")
    assert closed["code"] == 4401
    assert "user" not in closed
    assert secret_token().rpartition(".")[0] not in json.dumps(lines)


async def test_without_being_asked_no_client_is_a_line(
    migrated_url: str, redis_url: str, empty_folder: Path
) -> None:
    async with server_process(migrated_url, redis_url, empty_folder) as server:
        async with connect(server.stream_url) as socket:
            await socket.send(json.dumps({"type": "hello", "token": secret_token()}))
            await socket.recv()
        await asyncio.sleep(0.2)
        assert not [line for line in server.lines() if str(USER) in json.dumps(line)]

"""The log of `guardwire serve`: lines for machines, without a secret in any of them."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from guardwire.errors import CloseCode
from realtime.errors import StreamClosed, UnavailableError
from realtime.logs import REQUEST_ID, Lines, Sink, _soften
from realtime.metrics import METRICS
from tests.auth.issuer import USER, secret_token
from tests.feed.node import sync
from tests.operations.server_process import ServerProcess, server_process
from tests.waiting import wait_until

#: Stands in each secret and in each value, so that one search finds them all.
MARK = "zqxsecretzqx"
REQUEST = "desk-7.42"
#: Beyond the range of floating point: PostgreSQL's error message quotes it.
UNREADABLE = Decimal("7272727272727272727e400")


def record(
    message: str, error: BaseException | None = None, *, name: str = "realtime.part"
) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord(name, logging.ERROR, "part.py", 1, message, None, exc_info)


def line(of: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Lines(style="json", node="one").format(of))
    return found


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


def test_a_line_is_one_object_with_its_time_in_utc() -> None:
    REQUEST_ID.set("abc")
    said = line(record("all\nis well"))
    REQUEST_ID.set("")
    assert said["message"] == "all\nis well"
    assert (said["level"], said["logger"], said["node"]) == ("ERROR", "realtime.part", "one")
    assert said["request_id"] == "abc"
    assert said["time"].endswith("Z")
    assert abs(datetime.fromisoformat(said["time"]).timestamp() - time.time()) < 60
    assert "\n" not in Lines(style="json", node="one").format(record("a\nb"))


@pytest.mark.parametrize(
    "error",
    [
        ValueError(MARK),
        KeyError(MARK),
        StreamClosed(CloseCode.MALFORMED, MARK),
        ExceptionGroup(MARK, [ValueError(MARK)]),
        asyncpg.DataError(MARK),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_says_where_and_not_with_what(error: Exception) -> None:
    said = line(record("it failed", raised(error, raised(RuntimeError(MARK)))))
    assert MARK not in json.dumps(said)
    assert said["exception"]["type"].endswith(type(error).__qualname__)
    assert any("test_logs.py" in frame for frame in said["exception"]["frames"])
    assert said["exception"]["cause"]["type"] == "builtins.RuntimeError"


def test_words_that_are_ours_are_kept() -> None:
    assert line(record("no", raised(UnavailableError("later"))))["exception"]["message"] == "later"
    assert line(record("no", raised(OSError(28, MARK))))["exception"]["message"] == os.strerror(28)


def test_a_library_is_heard_by_its_first_line() -> None:
    message = f"Task exception was never retrieved\nfuture: <Task exception=ValueError({MARK!r})>"
    assert line(record(message, name="asyncio"))["message"] == "Task exception was never retrieved"


def test_a_library_that_warns_is_one_line() -> None:
    warned = record("Failed to restore the pool; retrying", raised(OSError(MARK)), name="asyncpg.pool")
    warned.levelno, warned.levelname = logging.WARNING, "WARNING"
    assert line(warned)["message"] == "Failed to restore the pool; retrying (OSError)"
    assert "exception" not in line(warned)


def test_a_future_that_a_driver_forgot_is_no_alarm() -> None:
    forgotten = record("Future exception was never retrieved", raised(ConnectionError(MARK)), name="asyncio")
    assert _soften(forgotten)
    assert (line(forgotten)["level"], "exception" in line(forgotten)) == ("INFO", False)
    other = record("Future exception was never retrieved", raised(ValueError(MARK)), name="asyncio")
    assert _soften(other)
    assert line(other)["exception"]["type"] == "builtins.ValueError"


def test_text_is_for_people() -> None:
    text = Lines(style="text", node="one").format(record("it failed", raised(ValueError(MARK))))
    assert " ERROR realtime.part it failed\n  builtins.ValueError\n    " in text
    assert MARK not in text


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize(
    "odd",
    ["\n2026-01-05 ERROR realtime all is lost", "\r", "\x1b[2J\x1b]0;title\x07", "\x9b31m", "\x00", "\x7f",
     "\u2028", "\u202e", "\ufeff", "\udc80", "\x85", " status=200 user=another", '" user="another'],
    ids=ascii,
)  # fmt: skip
def test_no_text_of_a_request_makes_a_line_a_field_or_a_command_of_a_terminal(
    style: Literal["text", "json"], odd: str
) -> None:
    said = record("it failed")
    vars(said).update(path=f"/{odd}", status=404)
    text = Lines(style=style, node="one").format(said)
    assert text.isprintable()
    assert Lines(style=style, node="one").format(record(odd)).isprintable()
    if style == "json":
        assert json.loads(text)["path"] == f"/{odd}"
    else:
        assert re.fullmatch(r'.* it failed path=([^ "=]+|"([^"\\]|\\.)*") status=404', text)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    yield reading, writing
    for descriptor in (reading, writing):
        os.close(descriptor)


def test_a_pipe_that_nobody_reads_costs_lines_and_no_time(pipe: tuple[int, int]) -> None:
    sink = Sink(pipe[1])
    sink.setFormatter(Lines(style="json", node="one"))
    lost = METRICS.log_lines_lost.get()
    began = time.monotonic()
    for _ in range(12_000):
        sink.emit(record("x" * 100))
    assert time.monotonic() - began < 5
    assert METRICS.log_lines_lost.get() > lost
    os.set_blocking(pipe[0], False)

    def drained() -> bool:
        try:
            os.read(pipe[0], 1 << 20)
        except BlockingIOError:
            return sink.idle
        return False

    wait_until(drained, seconds=30)


def test_what_cannot_be_written_is_counted() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    sink = Sink(full)
    sink.setFormatter(Lines(style="json", node="one"))
    lost = METRICS.log_lines_lost.get()
    sink.emit(record("nobody will read this"))
    wait_until(lambda: METRICS.log_lines_lost.get() == lost + 1)
    sink.emit(logging.LogRecord("realtime", logging.ERROR, "", 1, "%d", ("no number",), None))
    assert METRICS.log_lines_lost.get() == lost + 2
    os.close(full)


@pytest.mark.parametrize("sink", ["full disk", "closed pipe"])
async def test_a_server_whose_log_cannot_be_written_serves(
    migrated_url: str, redis_url: str, empty_folder: Path, sink: str
) -> None:
    if sink == "full disk":
        output = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, output = os.pipe()
        os.close(reading)
    level = {"GUARDWIRE_LOG_LEVEL": "DEBUG"}
    async with server_process(migrated_url, redis_url, empty_folder, level, output=output) as server:
        os.close(output)
        bearer = {"Authorization": f"Bearer {secret_token()}"}
        async with httpx.AsyncClient(base_url=server.url) as client:
            for _ in range(20):
                assert (await client.get("/api/v1/guards/status", headers=bearer)).status_code == 200
            async with connect(server.stream_url, additional_headers=bearer) as connection:
                assert '"welcome"' in str(await connection.recv())
            counted = (await client.get("/metrics")).text
        lost = re.search(r"^guardwire_log_lines_lost_total (\d+)$", counted, re.MULTILINE)
        assert lost is not None
        assert int(lost[1]) > 20
        assert server.process.returncode is None


async def test_no_line_holds_a_secret_or_a_value(
    migrated_url: str, redis_url: str, empty_folder: Path
) -> None:
    """At DEBUG, on successful and on failing paths, in the lines of every library."""
    level = {"GUARDWIRE_LOG_LEVEL": "DEBUG", "GUARDWIRE_NODE": "node-one"}
    async with server_process(migrated_url, redis_url, empty_folder, level) as server:
        hidden = [MARK, *await go_well(server, migrated_url), *await go_wrong(server, migrated_url)]
        server.process.terminate()
        await server.process.wait()
        said = server.log.read_text("utf-8")
        lines = server.lines()
    assert [secret for secret in hidden if secret in said] == []
    assert {"time", "level", "logger", "message", "node"} <= set.intersection(*map(set, lines))
    assert {line["node"] for line in lines} == {"node-one"}
    # The checks above need some log lines to mean anything.
    answered = [line for line in lines if line["message"] == "answered"]
    assert {200, 401, 403, 404, 422} <= {line["status"] for line in answered}
    assert all("request_id" in line for line in answered)
    assert any(line["request_id"] == REQUEST for line in answered)
    assert any("exception" in line for line in lines), "nothing failed with an exception"


async def go_well(server: ServerProcess, database_url: str) -> list[str]:
    """Use every way in; returns the texts that must not occur in the log."""
    token, later = secret_token(jti=MARK), secret_token(jti="another")
    bearer = {"Authorization": f"Bearer {token}", "X-Request-Id": REQUEST, "X-Note": MARK}
    connection = await asyncpg.connect(database_url)
    await sync(connection, USER)
    await connection.execute("UPDATE reconciliation_logs SET symbol = $1", MARK.upper())
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.get("/api/v1/positions/open", headers=bearer)
        assert (answer.status_code, answer.headers["x-request-id"]) == (200, REQUEST)
        ticket = (await client.post("/api/v1/tickets", headers=bearer)).json()["ticket"]
        async with client.stream("GET", f"/api/v1/stream?ticket={ticket}&channels=status") as stream:
            first = [line async for _, line in _some(stream, 1)]
        session = json.loads(first[0].removeprefix("data: "))["session"]
    async with connect(server.stream_url, additional_headers={"X-Request-Id": REQUEST}) as stream:
        await stream.send(json.dumps({"type": "hello", "token": token}))
        welcome = json.loads(await stream.recv())
        assert MARK.upper() in str(await stream.recv())
        await stream.send(json.dumps({"type": "auth", "token": later}))
        await sync(connection, USER, price=1999.875, is_applied=False)
        while "1999.875" not in str(await stream.recv()):
            pass
    await connection.close()
    for each in (session, welcome["session"]):
        await server.says(lambda line, each=each: line.get("session_id") == each)  # type: ignore[misc]
    # The lines of the handshake's request and of its session can be matched.
    await server.says(
        lambda line: line.get("session_id") == welcome["session"] and line.get("request_id") == REQUEST
    )
    return [token, later, ticket, token.split(".")[2], "1999.875", MARK.upper()]


async def _some(stream: httpx.Response, most: int) -> Any:
    found = 0
    async for text in stream.aiter_lines():
        if text.startswith("data: "):
            yield found, text
            found += 1
            if found == most:
                return


async def go_wrong(server: ServerProcess, database_url: str) -> list[str]:
    """Fail in every way that a caller can cause, and in one that only the database can."""
    token, bad = secret_token(), secret_token()[:-4] + "AAAA"
    bearer = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=server.url) as client:
        for path, headers in (
            ("/api/v1/positions/open", {"Authorization": f"Bearer {bad}"}),
            ("/api/v1/positions/open", {"Authorization": f"Basic {MARK}"}),
            (f"/api/v1/positions/open?token={token}", {}),
            (f"/api/v1/state?since={MARK}", bearer),
            (f"/api/v1/positions/{token}", bearer),
            (f"/{token}", {}),
            (f"/api/v1/stream?ticket={MARK}", {}),
        ):
            assert (await client.get(path, headers=headers)).status_code in (401, 404, 422)
        revoke = await client.post("/api/v1/admin/revocations", headers=bearer, json={"reason": MARK})
        assert revoke.status_code == 403
    for query, headers in ((f"?token={token}", {}), ("", {"Authorization": f"Bearer {bad}"})):
        with pytest.raises(InvalidStatus):
            await connect(server.stream_url + query, additional_headers=headers)
    for frame in (
        json.dumps({"type": "hello", "token": bad}),
        json.dumps({"type": "hello", "token": token, MARK: 1, "channels": [MARK]}),
        MARK,
    ):
        async with connect(server.stream_url) as stream:
            await stream.send(frame)
            with pytest.raises(ConnectionClosed):
                await stream.recv()
    _speak_no_http(server)
    await _break_the_account(database_url, server)
    return [token, bad, "72727272727272"]


def _speak_no_http(server: ServerProcess) -> None:
    address = server.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as client:
        client.sendall(f"GET /{MARK} {MARK}\r\nAuthorization {MARK}\r\n\r\n".encode())
        client.recv(4096)


async def _break_the_account(database_url: str, server: ServerProcess) -> None:
    """A value that cannot be read makes the evaluation fail, which is logged with its exception."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "UPDATE guardwire.accounts SET balance = $1::numeric, revision = revision + 1", UNREADABLE
    )
    await connection.close()
    await server.says(lambda line: "cannot be evaluated" in line["message"])

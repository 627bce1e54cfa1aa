"""A client that cannot connect says so, and why, without any logging having been set up."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from guardwire import connect
from guardwire.clock import Instant
from guardwire.link import TransportName
from guardwire.retry import Outage
from realtime.embedded.folder import free_port
from tests.client.peer import Peer, opening
from tests.client.states import status
from tests.client.waiting import eventually

ROOT = Path(__file__).parents[2]
TRANSPORTS: tuple[TransportName, ...] = ("websocket", "sse", "poll")


def at(seconds: float) -> Instant:
    return Instant(seconds, seconds)


def test_the_first_failure_is_worth_a_warning_and_then_one_a_minute() -> None:
    outage = Outage(at(0))
    assert [outage.should_warn_of_failure(at(seconds)) for seconds in (1, 2, 60, 61)] == [
        True,
        False,
        False,
        True,
    ]
    outage.end()
    outage.begin(at(62))
    assert outage.should_warn_of_failure(at(63))


def test_silence_is_worth_one_warning_within_ten_seconds() -> None:
    outage = Outage(at(0))
    assert [outage.should_warn_of_silence(at(seconds)) for seconds in (1, 7.9, 8.5, 9)] == [
        False,
        False,
        True,
        False,
    ]
    outage.end()
    assert not outage.should_warn_of_silence(at(100))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_port_where_nobody_listens_is_warned_of_once(
    transport: TransportName, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(TimeoutError):
        async with connect(
            f"http://127.0.0.1:{free_port()}", token="t", transports=[transport], open_timeout_seconds=2
        ):
            raise AssertionError("nobody listens there")
    (warning,) = warnings(caplog)
    assert "Connect call failed" in warning


async def test_a_server_that_never_answers_is_warned_of_before_ten_seconds_have_passed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TimeoutError):
            async with connect(f"http://127.0.0.1:{port}", token="t", open_timeout_seconds=9.5):
                raise AssertionError("nobody answers there")
    assert warnings(caplog)[0] == "not connected after 8 s: the server has not answered yet"


async def test_a_client_that_comes_back_at_once_warns_of_nothing(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    state = {"status": status()}
    answered = opening(peer, state)
    async with connect(peer.url, token="t", channels=["status"]) as account:
        again = opening(peer, state, 101)
        await (await answered).close(1012, "the server is restarting")
        await again
        await eventually(lambda: account.fresh)
    assert warnings(caplog) == []


def test_a_bot_without_logging_says_on_standard_error_why_it_is_not_connected() -> None:
    program = f"""
import asyncio
from guardwire import connect
async def main():
    async with connect("http://127.0.0.1:{free_port()}", token="t", open_timeout_seconds=1):
        pass
try:
    asyncio.run(main())
except TimeoutError:
    pass
"""
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "the link ended (1006 unreachable: " in said.stderr

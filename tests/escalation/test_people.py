"""Messages to people, by the real apprise to a real server in the place of a service."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from realtime.escalation.outbox import Result
from realtime.escalation.people import MISSING, PeopleSender, message_of, url_problem
from tests.escalation.deliveries import ACCOUNT, PAYLOAD, delivery
from tests.escalation.receiver import Receiver, hanging, saying
from tests.machine import slowness

ROOT = Path(__file__).parents[2]


def gotify(receiver: Receiver, host: str = "127.0.0.1") -> str:
    """The URL of a Gotify server, whose token no log line may hold."""
    return f"gotify://{host}:{receiver.port}/of-a-token"


async def test_a_person_is_reached_by_a_service_of_apprise() -> None:
    async with Receiver() as receiver:
        result = await PeopleSender(allow_private=True).send(delivery(gotify(receiver), kind="person"))
    assert result == Result("delivered")
    (request,) = receiver.requests
    message = json.loads(request.body)
    assert message["title"] == "Guardwire: critical market alert, XAUUSD größer"
    assert "Act before: 2026-12-01T12:01:00Z" in message["message"]


async def test_a_service_that_refuses_the_message_is_a_failure() -> None:
    async with Receiver() as receiver:
        receiver.answer = saying(500, body=b"of-the-answer")
        result = await PeopleSender(allow_private=True).send(delivery(gotify(receiver), kind="person"))
    assert result == Result("failed", reason="the service did not take the message")


async def test_a_service_that_hangs_is_left_after_the_time_limit() -> None:
    async with Receiver() as receiver:
        receiver.answer = hanging
        began = time.monotonic()
        people = PeopleSender(allow_private=True, timeout_seconds=0.5)
        # Loading apprise takes longer than this time limit.
        await PeopleSender(allow_private=True).send(delivery("gotify://127.0.0.1:1/x", kind="person"))
        began = time.monotonic()
        result = await people.send(delivery(gotify(receiver), kind="person"))
        assert result == Result("failed", reason="the service did not answer within 0.5 s")
        assert time.monotonic() - began < 0.5 + 1.0 * slowness()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433"])
async def test_a_service_at_a_private_address_is_never_connected_to_unless_that_is_allowed(host: str) -> None:
    async with Receiver() as receiver:
        result = await PeopleSender(allow_private=False).send(delivery(gotify(receiver, host), kind="person"))
        assert result == Result("failed", reason="the service did not take the message")
        assert receiver.connections == 0


async def test_mail_is_never_sent_to_a_private_address_unless_that_is_allowed() -> None:
    async with Receiver() as receiver:
        url = f"mailto://user:of-a-token@127.0.0.1:{receiver.port}?to=somebody@example.com&from=a@example.com"
        result = await PeopleSender(allow_private=False).send(delivery(url, kind="person"))
        assert result == Result("failed", reason="the service did not take the message")
        assert receiver.connections == 0


async def test_no_log_line_holds_a_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Receiver() as receiver:
        receiver.answer = saying(500, body=b"of-the-answer")
        for allow_private in (True, False):
            await PeopleSender(allow_private=allow_private).send(delivery(gotify(receiver), kind="person"))
    assert [record for record in caplog.records if "of-" in record.getMessage()] == []


@pytest.mark.parametrize(
    "url",
    [
        "tgram://123456:ABC/42/", "ntfys://topic", "slack://a/b/c/#alerts", "discord://id/token",
        "mailtos://user:password@example.com?smtp=mail.example.com&to=a@example.com", "pover://user@token",
    ],
)  # fmt: skip
def test_services_that_may_be_used(url: str) -> None:
    assert url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("json://169.254.169.254/latest", "must begin with one of"),
        ("https://hooks.example/", "must begin with one of"),
        ("syslog://", "must begin with one of"),
        ("dbus://", "must begin with one of"),
        ("file:///etc/passwd", "must begin with one of"),
        ("tgram://123456:ABC/42/?template=/proc/self/environ", "no others"),
        ("tgram://123456:ABC/42/?Template=/proc/self/environ", "no others"),
        ("tgram://123456:ABC/42/?to=1;template=/etc/passwd", "no others"),
        ("tgram://123456:ABC/42/?%74emplate=/etc/passwd", "no others"),
        ("tgram://123456:ABC/42/?+template=/etc/passwd", "no others"),
        ("slack://a/b/c/#alerts?template=/etc/passwd", "no others"),
        ("mailto://user:password@example.com?pgpkey=/etc/passwd", "no others"),
        ("mailto:user@example.com", "must begin with one of"),
    ],
)
def test_services_and_parameters_that_reach_into_this_machine_are_refused(url: str, problem: str) -> None:
    found = url_problem(url)
    assert found is not None
    assert problem in found


async def test_what_apprise_reads_in_a_url_is_what_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the first check gone, as if it had read the URL otherwise, no file is sent either."""
    monkeypatch.setattr("realtime.escalation.people.url_problem", lambda _: None)
    (tmp_path / "secret").write_text("{}")
    async with Receiver() as receiver:
        for url in (
            f"json://127.0.0.1:{receiver.port}/",
            f"{gotify(receiver)}?template={tmp_path / 'secret'}",
        ):
            result = await PeopleSender(allow_private=True).send(delivery(url, kind="person"))
            assert result.outcome == "failed"
        assert receiver.connections == 0


def test_without_the_extra_the_sentence_says_what_to_install() -> None:
    program = f"""
import asyncio, sys
sys.modules["apprise"] = None
from realtime.escalation.people import PeopleSender
from tests.escalation.deliveries import delivery
result = asyncio.run(PeopleSender(allow_private=False).send(delivery("ntfys://topic", kind="person")))
print(result.reason == {MISSING!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


def test_a_node_does_not_load_apprise_before_somebody_is_to_be_reached() -> None:
    program = "import app, sys; print('apprise' in sys.modules, 'requests' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False False\n"


def test_a_test_message_says_that_nothing_has_to_be_done() -> None:
    event = json.loads(PAYLOAD)
    title, text = message_of(json.dumps(event | {"type": "alert.test"}))
    assert title == "Guardwire: test"
    assert text == f"This is a test for account {ACCOUNT}. Nothing has to be done."


def test_a_flapping_alert_says_how_often_it_came() -> None:
    event = json.loads(PAYLOAD)
    event["data"]["occurrences"] = 180
    assert "Occurrences: 180" in message_of(json.dumps(event))[1]

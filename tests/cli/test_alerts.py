"""`guardwire alerts`, `arm`, `escalation` and `webhooks`, as an operator runs them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from queries.alert_calls import acknowledge, list_alerts
from tests.cli.conftest import Guardwire
from tests.queries.database_writer import DatabaseWriter

URL = "https://desk.example/alerts"


@pytest.fixture
async def writer(migrated_url: str) -> AsyncIterator[DatabaseWriter]:
    connection = await asyncpg.connect(migrated_url)
    yield DatabaseWriter(connection)
    await connection.close()


class Operator:
    """Runs commands on the migrated database."""

    def __init__(self, guardwire: Guardwire, database_url: str) -> None:
        self._guardwire = guardwire
        self._database_url = database_url

    def run(self, *arguments: object) -> Any:
        return self._guardwire(*map(str, arguments), DATABASE_URL=self._database_url)

    def said(self, *arguments: object) -> tuple[str, str]:
        """The output of a command that succeeds."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    def json(self, *arguments: object) -> Any:
        """The JSON that a command prints."""
        return json.loads(self.said(*arguments, "--json")[0])


@pytest.fixture
def operator(guardwire: Guardwire, migrated_url: str) -> Operator:
    return Operator(guardwire, migrated_url)


async def test_an_alert_is_listed_acknowledged_snoozed_and_shown_with_its_log(
    operator: Operator, writer: DatabaseWriter
) -> None:
    await writer.equity(10_000)
    await writer.equity(8_000, 1)
    user = writer.user_id
    (alert,) = await list_alerts(writer.connection, user)
    listed = operator.said("alerts", "list", "--user", user)[0]
    assert alert in listed
    assert "critical drawdown" in listed
    assert "not acknowledged" in listed
    assert operator.json("alerts", "list", "--user", user)["alerts"][0]["alert_id"] == alert
    snooze = ("alerts", "snooze", alert, "--user", user, "--as", "ana")
    assert "does not escalate for 600 s" in operator.said(*snooze, "--reason", "by hand")[1]
    ack = ("alerts", "ack", alert, "--user", user, "--as")
    assert "acknowledged (revision" in operator.said(*ack, "ana", "--action", "acting")[1]
    assert "was acknowledged before" in operator.said(*ack, "bob")[1]
    history = operator.json("alerts", "show", alert, "--user", user)
    assert history["alert"]["acknowledged_by"] == "ana"
    assert [each["entry"] for each in history["log"]] == ["raised", "snoozed", "acknowledged"]
    assert "acknowledged by ana" in operator.said("alerts", "show", alert, "--user", user)[0]
    stale = operator.run(*ack, "ana", "--generation", "2")
    assert (stale.returncode, stale.stdout) == (1, "")
    assert "another generation" in stale.stderr


async def test_an_alert_that_is_over_is_listed_on_demand(operator: Operator, writer: DatabaseWriter) -> None:
    await writer.equity(10_000)
    await writer.equity(8_000, 1)
    (alert,) = await list_alerts(writer.connection, writer.user_id)
    await writer.equity(10_000, 2)
    await acknowledge(writer.connection, writer.user_id, {UUID(alert): 1}, by_name="ana")
    assert operator.said("alerts", "list", "--user", writer.user_id) == ("", "")
    assert alert in operator.said("alerts", "list", "--user", writer.user_id, "--all")[0]


def test_what_is_not_there_is_an_error_in_a_sentence(operator: Operator) -> None:
    user, some = uuid4(), uuid4()
    for arguments in (
        ("alerts", "ack", some, "--user", user, "--as", "ana"),
        ("alerts", "show", some, "--user", user),
        ("webhooks", "show", some),
        ("webhooks", "remove", some),
        ("webhooks", "test", some),
        ("webhooks", "rotate", some),
        ("webhooks", "enable", some),
        ("webhooks", "redeliver", some, 1),
    ):
        done = operator.run(*arguments)
        assert done.returncode == 1, arguments
        assert done.stderr.startswith("guardwire: The")
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("arm", "on", "--as", " "), "printable ASCII"),
        (("arm", "off", "--as", "ana", "--reason", " "), "a reason"),
        (("escalation", "set", "webhook_after=5"), "NAME=SECONDS"),
        (("escalation", "set", "repeat_seconds=1"), "repeat_seconds"),
        (("webhooks", "add", "http://desk.example/"), "must begin with https://"),
        (("webhooks", "add", "https://10.0.0.1/"), "private address"),
        (("webhooks", "add", "file:///etc/passwd", "--kind", "person"), "must begin with one of"),
    ],
)
def test_what_cannot_be_done_is_an_error_of_the_options(
    operator: Operator, arguments: tuple[str, ...], problem: str
) -> None:
    done = operator.run(*arguments, "--user", uuid4())
    assert done.returncode == 2, done.stderr
    assert problem in done.stderr


async def test_an_account_is_armed_and_disarmed(operator: Operator, writer: DatabaseWriter) -> None:
    await writer.equity(10_000)
    user = ("--user", writer.user_id)
    assert operator.said("arm", "show", *user)[0] == "not armed\n"
    assert "armed (revision" in operator.said("arm", "on", *user, "--as", "ana")[1]
    assert operator.said("arm", "show", *user)[0].startswith("armed since ")
    assert "disarmed until" in operator.said("arm", "off", *user, "--as", "ana", "--reason", "a release")[1]
    shown = operator.json("arm", "show", *user)
    assert (shown["armed"], shown["reason"], shown["changed_by"]) == (False, "a release", "ana")


def test_a_policy_is_changed_for_one_account_and_for_all_others(operator: Operator) -> None:
    user = uuid4()
    operator.said("escalation", "set", "webhook_after_seconds=5", "--user", user)
    everybody = operator.json("escalation", "set", "webhook_after_seconds=7", "people_after_seconds=15")
    assert (everybody["webhook_after_seconds"], everybody["people_after_seconds"]) == (7, 15)
    assert operator.json("escalation", "show", "--user", user)["webhook_after_seconds"] == 5
    assert operator.json("escalation", "show", "--user", uuid4())["webhook_after_seconds"] == 7
    assert "grace_seconds" in operator.said("escalation", "show")[0]


def test_a_webhook_lives_and_its_secret_is_printed_when_it_is_made_and_rotated(operator: Operator) -> None:
    added = operator.json("webhooks", "add", URL, "--description", "the desk")
    endpoint, secret = added["endpoint_id"], added["secret"]
    assert secret.startswith("whsec_")
    assert endpoint in operator.said("webhooks", "list")[0]
    assert operator.json("webhooks", "list", "--user", uuid4())["endpoints"] == []
    rotated = operator.said("webhooks", "rotate", endpoint)[0].strip()
    assert rotated.startswith("whsec_")
    assert rotated != secret
    operator.said("webhooks", "test", endpoint)
    shown = operator.json("webhooks", "show", endpoint)
    (message,) = shown["deliveries"]
    assert message["outcome"] is None
    assert "whsec_" not in json.dumps([shown, operator.json("webhooks", "list")])
    assert str(message["delivery_id"]) in operator.said("webhooks", "show", endpoint)[0]
    operator.said("webhooks", "disable", endpoint)
    assert operator.run("webhooks", "test", endpoint).returncode == 1
    operator.said("webhooks", "enable", endpoint)
    assert "dropped: 1" in operator.said("alerts", "release", "--discard")[1]
    operator.said("webhooks", "redeliver", endpoint, message["delivery_id"])
    operator.said("webhooks", "remove", endpoint)
    assert operator.said("webhooks", "list") == ("", "")

"""The demo's receiver verifies webhooks as the public algorithm says, and keeps few."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from realtime.demo.receiver import MOST_KEPT, Receiver
from realtime.escalation.signing import signed_headers

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OTHER_SECRET = "whsec_ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7"
BODY = json.dumps({"type": "alert.raised", "data": {"subject": "größer"}}, ensure_ascii=False)

Headers = dict[str, str]


def signed(*, secret: str = SECRET, age: timedelta = timedelta(0)) -> Headers:
    return signed_headers("a.1.1", BODY, secrets=[secret], attempted_at=datetime.now(UTC) - age)


@pytest.fixture
def receiver() -> Receiver:
    receiver = Receiver()
    receiver.expect(SECRET)
    return receiver


def test_a_webhook_that_the_secret_signed_is_kept_with_its_content(receiver: Receiver) -> None:
    assert receiver.take_webhook(BODY.encode(), signed())
    (kept,) = receiver.received
    assert kept.is_valid
    assert kept.webhook_id == "a.1.1"
    assert kept.event == json.loads(BODY)


@pytest.mark.parametrize(
    ("make", "body"),
    [
        (lambda: signed(secret=OTHER_SECRET), BODY.encode()),
        (lambda: signed(age=timedelta(minutes=6)), BODY.encode()),
        (signed, BODY.replace("raised", "tested").encode()),
        (signed, b"\xff"),
        (lambda: signed() | {"webhook-signature": "v1"}, BODY.encode()),
        (lambda: signed() | {"webhook-signature": "v1,%"}, BODY.encode()),
        (lambda: signed() | {"webhook-timestamp": "now"}, BODY.encode()),
        (dict, BODY.encode()),
    ],
    ids=[
        "another secret",
        "an old one",
        "another body",
        "no text",
        "no signature",
        "no base64",
        "no time",
        "no headers",
    ],
)
def test_of_any_other_call_nothing_is_kept_but_that_it_came(
    receiver: Receiver, make: Callable[[], Headers], body: bytes
) -> None:
    assert not receiver.take_webhook(body, make())
    (kept,) = receiver.received
    assert (kept.is_valid, kept.webhook_id, kept.event) == (False, None, None)


def test_before_it_knows_a_secret_nothing_is_valid() -> None:
    assert not Receiver().take_webhook(BODY.encode(), signed())


def test_a_message_to_the_person_needs_the_key(receiver: Receiver) -> None:
    assert not receiver.take_message(b'{"title":"t","message":"m"}', "another key")
    assert receiver.take_message(b'{"title":"t","message":"m"}', receiver.person_key)
    newest, oldest = receiver.received
    assert (newest.title, newest.text) == ("t", "m")
    assert (oldest.title, oldest.text) == (None, None)


def test_the_newest_fifty_stay(receiver: Receiver) -> None:
    for _ in range(MOST_KEPT + 10):
        receiver.take_webhook(BODY.encode(), signed())
    numbers = [each.number for each in receiver.received]
    assert numbers == list(range(60, 10, -1))
    assert receiver.count == 60

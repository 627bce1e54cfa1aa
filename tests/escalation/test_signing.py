"""The signature agrees with vectors that the npm package verifies too (`tests/javascript/webhook.test.js`)."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from realtime.escalation.signing import signed_headers

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "webhook.json").read_text("utf-8"))


def test_the_headers_are_those_of_the_vector() -> None:
    at = datetime.fromisoformat(VECTOR["attempted_at"])
    message_id = VECTOR["headers"]["webhook-id"]
    headers = signed_headers(message_id, VECTOR["body"], secrets=VECTOR["secrets"], attempted_at=at)
    assert headers == VECTOR["headers"]


def test_a_recorded_webhook_that_is_sent_again_ten_minutes_later_is_refused() -> None:
    secret = VECTOR["secrets"][0]
    for age_seconds, is_old in ((60, False), (600, True)):
        at = datetime.fromtimestamp(time.time() - age_seconds, UTC)
        headers = signed_headers("alert.1.1", "{}", secrets=[secret], attempted_at=at)
        if is_old:
            with pytest.raises(WebhookVerificationError, match="too old"):
                Webhook(secret).verify("{}", headers)
        else:
            assert Webhook(secret).verify("{}", headers) == {}


def test_a_secret_that_cannot_sign_stands_in_no_others_way() -> None:
    good = VECTOR["secrets"][0]
    headers = signed_headers("a", "{}", secrets=["whsec_", "whsec_x", good], attempted_at=datetime.now(UTC))
    assert Webhook(good).verify("{}", headers) == {}

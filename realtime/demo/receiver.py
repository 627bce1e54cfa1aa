"""The receiver of the demo's alerts: it verifies webhooks as any receiver does, and keeps the newest for its page.

It also plays the service by which people are notified: a server of Gotify, which takes messages with its key.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec
from standardwebhooks import Webhook, WebhookVerificationError

MOST_KEPT: Final = 50


class Received(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call that arrived. The body of a call without a valid signature is not kept."""

    number: int
    at: datetime
    #: Whom it was meant for.
    reader: Literal["webhook", "person"]
    #: Whether the signature or the key is valid.
    is_valid: bool
    webhook_id: str | None = None
    #: A webhook's body.
    event: Any = None
    #: The title and the text of a message to a person.
    title: str | None = None
    text: str | None = None


class Receiver:
    """The calls that arrived, newest first."""

    def __init__(self) -> None:
        self.received: deque[Received] = deque(maxlen=MOST_KEPT)
        #: How many arrived in all.
        self.count = 0
        #: The key that a message to the person has to carry.
        self.person_key = secrets.token_urlsafe(16)
        self._webhook: Webhook | None = None

    def expect(self, secret: str) -> None:
        """Take webhooks that this secret (`whsec_…`) signed."""
        self._webhook = Webhook(secret)

    def take_webhook(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """Keep a call to the webhook; whether its signature is valid. ``body`` is as it came."""
        event = self._verified(body, headers)
        webhook_id = None if event is None else headers["webhook-id"]
        self._keep("webhook", is_valid=event is not None, webhook_id=webhook_id, event=event)
        return event is not None

    def take_message(self, body: bytes, key: str) -> bool:
        """Keep a message to the person, as clients of Gotify send it; whether its key is valid.

        Raises msgspec's DecodeError for a body that is no JSON object.
        """
        if not secrets.compare_digest(key.encode(), self.person_key.encode()):
            self._keep("person", is_valid=False)
            return False
        message = msgspec.json.decode(body, type=dict[str, Any])
        self._keep("person", is_valid=True, title=message.get("title"), text=message.get("message"))
        return True

    def _verified(self, body: bytes, headers: Mapping[str, str]) -> Any:
        """The body of a call whose signature is valid; None for every other call."""
        if self._webhook is None:
            return None
        try:
            return self._webhook.verify(body, dict(headers))
        except (WebhookVerificationError, ValueError):  # the latter for headers and bodies of another form
            return None

    def _keep(self, reader: Literal["webhook", "person"], **values: Any) -> None:
        self.count += 1
        self.received.appendleft(Received(number=self.count, at=datetime.now(UTC), reader=reader, **values))

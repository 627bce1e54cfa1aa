"""The headers of a webhook by Standard Webhooks: its id, the time of the attempt, and a signature for each secret."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from datetime import datetime

from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError


def signed_headers(
    message_id: str, body: str, *, secrets: Sequence[str], attempted_at: datetime
) -> dict[str, str]:
    """The three headers of one attempt; ``secrets`` are `whsec_…`, the newest first, ``attempted_at`` is in UTC.

    While a secret rotates there are two, and a receiver with either of them finds its signature. Raises ValueError
    when no secret can sign.
    """
    signatures = []
    for secret in secrets:
        try:
            webhook = Webhook(secret)
        except (binascii.Error, EmptyWebhookSecretError):
            continue
        signatures.append(webhook.sign(message_id, attempted_at, body))
    if not signatures:
        raise ValueError("none of its secrets can sign")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(attempted_at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }

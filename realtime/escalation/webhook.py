"""Sends an alert to a webhook, signed by Standard Webhooks, and reads off the answer what becomes of the delivery."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from queries.alert_calls import Claim
from realtime.errors import UnavailableError
from realtime.escalation.outbound import Answer, OutboundRequests
from realtime.escalation.outbox import Result
from realtime.escalation.signing import signed_headers

#: The statuses whose Retry-After is honoured.
_THROTTLED: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


class WebhookSender:
    """Sends deliveries to webhooks."""

    def __init__(self, requests: OutboundRequests) -> None:
        self._requests = requests

    async def send(self, claim: Claim) -> Result:
        """Send once; a failure is a result too."""
        try:
            headers = signed_headers(
                claim.message_id,
                claim.payload,
                secrets=claim.secrets,
                attempted_at=datetime.now(UTC),
            )
            answer = await self._requests.send(
                "POST",
                claim.url,
                headers={**headers, "Content-Type": "application/json"},
                body=claim.payload.encode(),
            )
        except ValueError as error:
            return Result("failed", reason=str(error))
        except UnavailableError as error:
            return Result("failed", reason=str(error))
        return result_of(answer)


def result_of(answer: Answer) -> Result:
    """The outcome of an answer: 2xx is success, 410 ends the endpoint, and everything else is tried again."""
    if 200 <= answer.status < 300:
        return Result("delivered", status=answer.status)
    outcome: Final = "gone" if answer.status == HTTPStatus.GONE else "failed"
    return Result(
        outcome,
        status=answer.status,
        reason=f"HTTP {answer.status}",
        retry_after_seconds=answer.retry_after_seconds if answer.status in _THROTTLED else None,
    )

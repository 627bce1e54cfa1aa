"""The descriptions of the routes of alerts, arming, escalation and webhooks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from auth.identity import ACK_SCOPE, MANAGE_SCOPE
from realtime.delivery.alerts import BURST, PER_SECOND
from realtime.delivery.http import alert_documents as documents
from realtime.delivery.http.alerts import MOST_ENDPOINTS
from realtime.delivery.http.openapi import Operation
from realtime.delivery.http.problems import (
    CONFLICT,
    CONTENT_TOO_LARGE,
    INVALID_PARAMETER,
    NOT_FOUND,
    TOO_MANY_REQUESTS,
    ProblemType,
)

_USER: Final = "5f2b7c1e-3d4a-4e8b-9c6d-0a1b2c3d4e5f"
_ALERT: Final = "3b0a9b3e-6f0d-51a4-8a3c-5d5b8a4f1c20"
_ENDPOINT: Final = "c8d1e0a2-94a7-4c0e-8f53-2b7d6e5f4a31"
_SECRET: Final = "whsec_bm90IGEgc2VjcmV0IGF0IGFsbCwgYW4gZXhhbXBsZSE="  # noqa: S105 - an example
_RAISED: Final = "2025-01-15T10:30:00.000000Z"
_LATER: Final = "2025-01-15T10:30:04.200000Z"

_RECORD: Final = documents.alert_record(
    _ALERT,
    {
        "generation": 1,
        "kind": "drawdown",
        "severity": "critical",
        "subject": "",
        "first_raised_at": _RAISED,
        "raised_at": _RAISED,
        "deadline_at": "2025-01-15T10:31:00.000000Z",
        "occurrences": 1,
        "observed": 20.0,
        "limit": 20.0,
        "level": 0,
    },
)
_LOG: Final = [
    documents.AlertLogRecord(generation=1, at=_RAISED, entry="raised", who=None, detail={"observed": 20.0}),
    documents.AlertLogRecord(
        generation=1, at=_LATER, entry="acknowledged", who="closer-1", detail={"action": "acting"}
    ),
]
_DONE: Final = documents.AlertDone(alert_id=_ALERT, generation=1, revision=1736937004200000)
_ARMING: Final = documents.ArmingDocument(
    user_id=_USER, armed=True, since=_RAISED, until=None, reason=None, changed_by="ana"
)
_POLICY: Final = documents.EscalationDocument(
    user_id=_USER, webhook_after_seconds=10, people_after_seconds=20, repeat_seconds=30,
    slow_repeat_seconds=300, give_up_seconds=86_400, hold_seconds=60, flap_seconds=60, grace_seconds=60,
)  # fmt: skip
_HOOK: Final = documents.EndpointRecord(
    endpoint_id=_ENDPOINT, kind="webhook", url="https://desk.example/alerts", description="the desk",
    created_at=_RAISED, disabled_at=None, disabled_reason=None,
)  # fmt: skip
_MESSAGE: Final = documents.DeliveryRecord(
    delivery_id=7, message_id=f"{_ALERT}.1.1", alert_id=_ALERT, generation=1, level=1, created_at=_LATER,
    due_at=_LATER, attempts=1, finished_at=_LATER, outcome="delivered", last_status=204,
)  # fmt: skip
_NEW_SECRET: Final = documents.EndpointSecret(endpoint_id=_ENDPOINT, secret=_SECRET)
_SENT: Final = documents.DeliveryDone(endpoint_id=_ENDPOINT, delivery_id=7)

_OPEN: Final[dict[str, Any]] = {
    "name": "open",
    "in": "query",
    "required": False,
    "description": "`true`: those in the state, which are not both resolved and acknowledged. `false`: the others.",
    "schema": {"type": "string", "enum": ["true", "false"]},
    "example": "true",
}


def _id(what: str, example: str) -> dict[str, Any]:
    schema = {"type": "string", "format": "uuid"}
    return {
        "name": "id", "in": "path", "required": True, "description": what, "schema": schema, "example": example,
    }  # fmt: skip


_ALERT_ID: Final = _id("The alert's id, as in the state.", _ALERT)
_ENDPOINT_ID: Final = _id("The webhook's id.", _ENDPOINT)


def _describe(
    path: str,
    operation_id: str,
    summary: str,
    answers: Any,
    example: Any,
    *problems: ProblemType,
    scope: str | None = None,
    description: str = "",
    takes: Any = None,
    **more: Any,
) -> Operation:
    needs = "" if scope is None else f"Needs the scope `{scope}`. "
    body = () if takes is None else (CONTENT_TOO_LARGE, INVALID_PARAMETER)
    return Operation(
        path=f"/api/v1/{path}",
        operation_id=operation_id,
        summary=summary,
        description=f"{needs}{description}".strip(),
        tag="alerts",
        answers=answers,
        example=example,
        needs_token=True,
        takes=None if takes is None else type(takes),
        takes_example=takes,
        problems=(TOO_MANY_REQUESTS, *body, *problems),
        **more,
    )


ALERT_OPERATIONS: Final = (
    _describe(
        "alerts",
        "listAlerts",
        "The alerts of the account, newest first",
        documents.AlertList,
        documents.AlertList(user_id=_USER, alerts=[_RECORD]),
        INVALID_PARAMETER,
        description="At most 200. Read from the database each time: a user gets"
        f" {PER_SECOND} requests about alerts a second on a node ({BURST} at once), over the stream and REST.",
        parameters=(_OPEN,),
    ),
    _describe(
        "alerts/{id}",
        "getAlert",
        "One alert with its log",
        documents.AlertHistory,
        documents.AlertHistory(user_id=_USER, alert=_RECORD, log=_LOG),
        NOT_FOUND,
        parameters=(_ALERT_ID,),
    ),
    _describe(
        "alerts/{id}/ack",
        "acknowledgeAlert",
        "Acknowledge an alert",
        documents.AlertDone,
        _DONE,
        NOT_FOUND,
        CONFLICT,
        method="post",
        scope=ACK_SCOPE,
        description="200 the first time and each time after; 409 where the alert is in another generation.",
        parameters=(_ALERT_ID,),
        takes=documents.AckRequest(generation=1, by="closer-1", action="acting"),
    ),
    _describe(
        "alerts/{id}/snooze",
        "snoozeAlert",
        "Put the escalation of an alert off",
        documents.AlertDone,
        _DONE,
        NOT_FOUND,
        CONFLICT,
        method="post",
        scope=ACK_SCOPE,
        description="For up to an hour. The alert stays in the state, and counts as not acknowledged.",
        parameters=(_ALERT_ID,),
        takes=documents.SnoozeRequest(generation=1, seconds=600, by="ana", reason="closing by hand"),
    ),
    _describe(
        "arming",
        "getArming",
        "Whether somebody has to attend the account",
        documents.ArmingDocument,
        _ARMING,
    ),
    _describe(
        "arming",
        "putArming",
        "Arm the account, or disarm it for a time",
        documents.ArmingDocument,
        _ARMING,
        method="put",
        scope=MANAGE_SCOPE,
        description="Disarming needs an end within 24 hours and a reason; the account is armed again then.",
        takes=documents.ArmingRequest(
            armed=False, by="ana", until=datetime(2025, 1, 15, 18, 0, tzinfo=UTC), reason="maintenance"
        ),
    ),
    _describe(
        "escalation",
        "getEscalation",
        "Who is looked for, and when, while nobody acknowledges",
        documents.EscalationDocument,
        _POLICY,
    ),
    _describe(
        "escalation",
        "putEscalation",
        "Change the policy of escalation",
        documents.EscalationDocument,
        _POLICY,
        method="put",
        scope=MANAGE_SCOPE,
        description="Values that are left out stay as they are. Alerts that stand keep the policy of their raise.",
        takes=documents.EscalationRequest(webhook_after_seconds=5),
    ),
    _describe(
        "webhooks",
        "listWebhooks",
        "Where alerts are delivered to",
        documents.EndpointList,
        documents.EndpointList(user_id=_USER, endpoints=[_HOOK]),
        scope=MANAGE_SCOPE,
    ),
    _describe(
        "webhooks",
        "addWebhook",
        "Deliver alerts to an address",
        documents.EndpointSecret,
        _NEW_SECRET,
        CONFLICT,
        method="post",
        scope=MANAGE_SCOPE,
        description="The answer has the secret that signs the messages (Standard Webhooks), and no later one has."
        f" 409 beyond {MOST_ENDPOINTS} webhooks.",
        takes=documents.EndpointRequest(url="https://desk.example/alerts", description="the desk"),
    ),
    _describe(
        "webhooks/{id}",
        "getWebhook",
        "One webhook with the newest messages to it",
        documents.EndpointHistory,
        documents.EndpointHistory(user_id=_USER, endpoint=_HOOK, deliveries=[_MESSAGE]),
        NOT_FOUND,
        scope=MANAGE_SCOPE,
        parameters=(_ENDPOINT_ID,),
    ),
    _describe(
        "webhooks/{id}",
        "changeWebhook",
        "Change a webhook, disable or enable it",
        documents.EndpointHistory,
        documents.EndpointHistory(user_id=_USER, endpoint=_HOOK, deliveries=[_MESSAGE]),
        NOT_FOUND,
        method="patch",
        scope=MANAGE_SCOPE,
        parameters=(_ENDPOINT_ID,),
        takes=documents.EndpointChange(enabled=False),
    ),
    _describe(
        "webhooks/{id}",
        "deleteWebhook",
        "Delete a webhook",
        documents.EndpointDeleted,
        documents.EndpointDeleted(endpoint_id=_ENDPOINT),
        NOT_FOUND,
        method="delete",
        scope=MANAGE_SCOPE,
        parameters=(_ENDPOINT_ID,),
    ),
    _describe(
        "webhooks/{id}/test",
        "testWebhook",
        "Send a test message",
        documents.DeliveryDone,
        _SENT,
        NOT_FOUND,
        CONFLICT,
        method="post",
        scope=MANAGE_SCOPE,
        description="What became of it is among the webhook's messages. 409 for one that is disabled.",
        parameters=(_ENDPOINT_ID,),
    ),
    _describe(
        "webhooks/{id}/rotate",
        "rotateWebhookSecret",
        "Give a webhook a new secret",
        documents.EndpointSecret,
        _NEW_SECRET,
        NOT_FOUND,
        CONFLICT,
        method="post",
        scope=MANAGE_SCOPE,
        description="Messages are signed with the secret before, too, until the next rotation.",
        parameters=(_ENDPOINT_ID,),
    ),
    _describe(
        "webhooks/{id}/redeliver",
        "redeliverMessage",
        "Send a finished message again",
        documents.DeliveryDone,
        _SENT,
        NOT_FOUND,
        CONFLICT,
        method="post",
        scope=MANAGE_SCOPE,
        description="Under the `webhook-id` that it had. 409 where no finished message of the webhook has the number.",
        parameters=(_ENDPOINT_ID,),
        takes=documents.RedeliveryRequest(delivery_id=7),
    ),
)

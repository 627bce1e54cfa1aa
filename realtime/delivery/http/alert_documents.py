"""The documents of alerts, arming, escalation and webhooks: what REST answers with, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, field

from guardwire.messages import Action, Generation, Name, Note, SnoozeSeconds
from guardwire.state import ConditionType
from queries.alert_calls import Arming, Delivery, Endpoint, LogEntry
from queries.timestamps import iso
from realtime.delivery.http.documents import Count, Identifier, Timestamp

Url = Annotated[str, Meta(min_length=1, max_length=2_048)]
EndpointKind = Literal["webhook", "person"]


class AlertRecord(Struct, frozen=True, kw_only=True):
    """One alert in its current generation. ``kind`` is an open list: act on one that you do not know."""

    alert_id: Identifier
    generation: int
    kind: str
    severity: Literal["warning", "critical"]
    subject: str
    symbol: str | None
    condition_type: ConditionType | None
    first_raised_at: Timestamp
    raised_at: Timestamp
    deadline_at: Timestamp | None
    occurrences: int
    observed: float | None
    limit: float | None
    acknowledged_by: str | None
    acknowledged_at: Timestamp | None
    action: Action | None
    hold_until: Timestamp | None
    snoozed_until: Timestamp | None
    level: Count
    resolved_at: Timestamp | None
    voided_at: Timestamp | None


class AlertList(Struct, frozen=True, kw_only=True):
    """Alerts of the account."""

    user_id: Identifier
    alerts: Annotated[list[AlertRecord], Meta(max_length=200, description="newest first")]


class AlertLogRecord(Struct, frozen=True, kw_only=True):
    """One thing that happened to an alert; ``who`` is null where the server itself did it."""

    generation: int
    at: Timestamp
    entry: Annotated[str, Meta(description="an open list: raised, repeated, acknowledged, snoozed, …")]
    who: str | None
    detail: dict[str, Any] | None


class AlertHistory(Struct, frozen=True, kw_only=True):
    """One alert with its log."""

    user_id: Identifier
    alert: AlertRecord
    log: Annotated[list[AlertLogRecord], Meta(max_length=200, description="the newest entries, oldest first")]


class _Taken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body of a request: an unknown field is refused."""


class AckRequest(_Taken, frozen=True, kw_only=True):
    """Acknowledge an alert in the generation that the caller has seen."""

    generation: Generation
    by: Name = field(name="as")
    action: Action = "received"


class SnoozeRequest(_Taken, frozen=True, kw_only=True):
    """Put the escalation of an alert off."""

    generation: Generation
    seconds: SnoozeSeconds
    by: Name = field(name="as")
    reason: Note


class AlertDone(Struct, frozen=True, kw_only=True):
    """It is committed; the state shows it from ``revision`` on."""

    alert_id: Identifier
    generation: int
    revision: int


class ArmingDocument(Struct, frozen=True, kw_only=True):
    """Whether somebody has to attend the account; one that is disarmed is armed again at ``until``."""

    user_id: Identifier
    armed: bool
    since: Timestamp | None
    until: Timestamp | None
    reason: str | None
    changed_by: str | None


class ArmingRequest(_Taken, frozen=True, kw_only=True):
    """Arm the account, or disarm it ``until`` a time within 24 hours, for a ``reason``."""

    armed: bool
    by: Name = field(name="as")
    until: Annotated[datetime, Meta(tz=True)] | None = None
    reason: Note | None = None


class EscalationDocument(Struct, frozen=True, kw_only=True):
    """The policy of the account, in seconds; alerts that stand keep the one of their raise."""

    user_id: Identifier
    webhook_after_seconds: int
    people_after_seconds: int
    repeat_seconds: int
    slow_repeat_seconds: int
    give_up_seconds: int
    hold_seconds: int
    flap_seconds: int
    grace_seconds: int


class EscalationRequest(_Taken, frozen=True, kw_only=True, omit_defaults=True):
    """The values to change; the others stay."""

    webhook_after_seconds: Annotated[int, Meta(ge=0, le=86_400)] | None = None
    people_after_seconds: Annotated[int, Meta(ge=0, le=86_400)] | None = None
    repeat_seconds: Annotated[int, Meta(ge=5, le=86_400)] | None = None
    slow_repeat_seconds: Annotated[int, Meta(ge=5, le=86_400)] | None = None
    give_up_seconds: Annotated[int, Meta(ge=60, le=2_678_400)] | None = None
    hold_seconds: Annotated[int, Meta(ge=1, le=3_600)] | None = None
    flap_seconds: Annotated[int, Meta(ge=0, le=3_600)] | None = None
    grace_seconds: Annotated[int, Meta(ge=1, le=3_600)] | None = None

    def changes(self) -> dict[str, int]:
        """The values that are given, by name."""
        return {name: value for name in POLICY if (value := getattr(self, name)) is not None}


POLICY: Final = EscalationRequest.__struct_fields__


class EndpointRecord(Struct, frozen=True, kw_only=True):
    """Where alerts of the account are delivered to; its secrets are in no document."""

    endpoint_id: Identifier
    kind: EndpointKind
    url: str
    description: str | None
    created_at: Timestamp
    disabled_at: Timestamp | None
    disabled_reason: str | None


class DeliveryRecord(Struct, frozen=True, kw_only=True):
    """One message to an endpoint; ``outcome`` is null until it is finished."""

    delivery_id: int
    message_id: Annotated[str, Meta(description="the `webhook-id`, the same at every attempt")]
    alert_id: Identifier
    generation: int
    level: Count
    created_at: Timestamp
    due_at: Timestamp
    attempts: Count
    finished_at: Timestamp | None
    outcome: Annotated[str, Meta(description="delivered, failed, gone or superseded")] | None
    last_status: Annotated[int, Meta(description="HTTP status of the last attempt")] | None


class EndpointList(Struct, frozen=True, kw_only=True):
    """All endpoints of the account."""

    user_id: Identifier
    endpoints: Annotated[list[EndpointRecord], Meta(description="oldest first")]


class EndpointHistory(Struct, frozen=True, kw_only=True):
    """One endpoint with the newest messages to it."""

    user_id: Identifier
    endpoint: EndpointRecord
    deliveries: Annotated[list[DeliveryRecord], Meta(max_length=200, description="newest first")]


class EndpointRequest(_Taken, frozen=True, kw_only=True):
    """Deliver alerts to ``url``; that of a person is an address of Apprise, such as `tgram://token/chat`."""

    url: Url
    kind: EndpointKind = "webhook"
    description: Note | None = None


class EndpointChange(_Taken, frozen=True, kw_only=True):
    """The values to change; the others stay. ``enabled``: whether messages are delivered."""

    url: Url | None = None
    description: Note | None = None
    enabled: bool | None = None


class EndpointSecret(Struct, frozen=True, kw_only=True):
    """An endpoint that was added, or has a new secret, which is shown this once; null of a person."""

    endpoint_id: Identifier
    secret: Annotated[str, Meta(description="of Standard Webhooks: `whsec_…`")] | None


class EndpointDeleted(Struct, frozen=True, kw_only=True):
    """The endpoint is there no longer."""

    endpoint_id: Identifier
    deleted: bool = True


class DeliveryDone(Struct, frozen=True, kw_only=True):
    """A message is in the outbox, and is sent within seconds."""

    endpoint_id: Identifier
    delivery_id: int


class RedeliveryRequest(_Taken, frozen=True, kw_only=True):
    """Send a finished message again, under the id that it had."""

    delivery_id: Annotated[int, Meta(ge=1, le=2**63 - 1)]


def alert_record(alert_id: str, alert: Mapping[str, Any]) -> AlertRecord:
    """The document of an alert of the state."""
    values: dict[str, Any] = {
        name: alert.get(name) for name in AlertRecord.__struct_fields__ if name != "alert_id"
    }
    return AlertRecord(alert_id=alert_id, **values)


def log_record(entry: LogEntry) -> AlertLogRecord:
    """The document of a line of an alert's log."""
    return AlertLogRecord(
        generation=entry.generation, at=iso(entry.at), entry=entry.entry, who=entry.who, detail=entry.detail
    )


def arming_document(user_id: str, arming: Arming) -> ArmingDocument:
    """The document of an account's arming."""
    return ArmingDocument(
        user_id=user_id,
        armed=arming.armed,
        since=_time(arming.since),
        until=_time(arming.until),
        reason=arming.reason,
        changed_by=arming.changed_by,
    )


def endpoint_record(endpoint: Endpoint) -> EndpointRecord:
    """The document of an endpoint, without its secrets."""
    return EndpointRecord(
        endpoint_id=str(endpoint.endpoint_id),
        kind=endpoint.kind,  # type: ignore[arg-type]
        url=endpoint.url,
        description=endpoint.description,
        created_at=iso(endpoint.created_at),
        disabled_at=_time(endpoint.disabled_at),
        disabled_reason=endpoint.disabled_reason,
    )


def delivery_record(delivery: Delivery) -> DeliveryRecord:
    """The document of a message to an endpoint."""
    return DeliveryRecord(
        delivery_id=delivery.delivery_id,
        message_id=delivery.message_id,
        alert_id=str(delivery.alert_id),
        generation=delivery.generation,
        level=delivery.level,
        created_at=iso(delivery.created_at),
        due_at=iso(delivery.due_at),
        attempts=delivery.attempts,
        finished_at=_time(delivery.finished_at),
        outcome=delivery.outcome,
        last_status=delivery.last_status,
    )


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)

"""REST of alerts, arming, escalation and webhooks, for callers that hold no stream.

Each answer is read from the database, or committed there, before it is sent. An id of another account is answered as
one that nobody has.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs
from uuid import UUID

import asyncpg
import msgspec
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from auth.identity import ACK_SCOPE, MANAGE_SCOPE
from guardwire.messages import encode
from queries import alert_calls
from queries.alert_calls import Acknowledged, Endpoint
from realtime.delivery.alerts import Alerts, uuid_of
from realtime.delivery.http import alert_documents as documents
from realtime.delivery.http.bodies import decode_body, read_body
from realtime.delivery.http.parameters import Authenticate
from realtime.delivery.http.responses import send_json
from realtime.owners import count_blocked

_NO_STORE: Final = [(b"cache-control", b"no-store")]
_NO_ALERT: Final = "The account has no alert of this id."
_NO_ENDPOINT: Final = "The account has no webhook of this id."
#: Endpoints of one account; each alert is delivered to all of them.
MOST_ENDPOINTS: Final = 32
_FLAGS: Final = {"true": True, "false": False}

#: Why an endpoint of a kind cannot have a URL, as a clause; None when it can.
UrlProblem = Callable[[str, str], str | None]


class Asked(NamedTuple):
    """One request after its checks; ``body`` is None where the method takes none."""

    user_id: UUID
    id: str
    query_string: bytes
    body: Any


class Handler(NamedTuple):
    """The handler of one method of a path, with the scope that it needs, the type of its body and its name."""

    answer: Callable[[Asked], Awaitable[msgspec.Struct]]
    scope: str | None = None
    takes: type[msgspec.Struct] | None = None
    name: str = ""


def alert_routes(*, alerts: Alerts, authenticate: Authenticate, url_problem: UrlProblem) -> list[Route]:
    """The routes of alerts, arming, escalation and webhooks."""
    rest, hooks = AlertRest(alerts), EndpointRest(alerts, url_problem)

    def route(path: str, name: str, **handlers: Handler) -> Route:
        endpoint = MethodEndpoint(alerts=alerts, authenticate=authenticate, handlers=handlers)
        return Route(f"/api/v1/{path}", endpoint, methods=list(handlers), name=name)

    ack = Handler(rest.acknowledge, ACK_SCOPE, documents.AckRequest, "acknowledgement")
    snooze = Handler(rest.snooze, ACK_SCOPE, documents.SnoozeRequest, "snooze")
    arm = Handler(rest.arm, MANAGE_SCOPE, documents.ArmingRequest, "arming")
    policy = Handler(rest.put_policy, MANAGE_SCOPE, documents.EscalationRequest, "policy of escalation")
    add = Handler(hooks.add, MANAGE_SCOPE, documents.EndpointRequest, "webhook")
    change = Handler(hooks.change, MANAGE_SCOPE, documents.EndpointChange, "change of a webhook")
    again = Handler(hooks.redeliver, MANAGE_SCOPE, documents.RedeliveryRequest, "redelivery")
    return [
        route("alerts", "alerts", GET=Handler(rest.list)),
        route("alerts/{id}", "alert", GET=Handler(rest.one)),
        route("alerts/{id}/ack", "alert_ack", POST=ack),
        route("alerts/{id}/snooze", "alert_snooze", POST=snooze),
        route("arming", "arming", GET=Handler(rest.arming), PUT=arm),
        route("escalation", "escalation", GET=Handler(rest.policy), PUT=policy),
        route("webhooks", "webhooks", GET=Handler(hooks.list, MANAGE_SCOPE), POST=add),
        route(
            "webhooks/{id}",
            "webhook",
            GET=Handler(hooks.one, MANAGE_SCOPE),
            PATCH=change,
            DELETE=Handler(hooks.delete, MANAGE_SCOPE),
        ),
        route("webhooks/{id}/test", "webhook_test", POST=Handler(hooks.test, MANAGE_SCOPE)),
        route("webhooks/{id}/rotate", "webhook_rotate", POST=Handler(hooks.rotate, MANAGE_SCOPE)),
        route("webhooks/{id}/redeliver", "webhook_redeliver", POST=again),
    ]


class MethodEndpoint:
    """One path, with a handler for each method."""

    def __init__(
        self, *, alerts: Alerts, authenticate: Authenticate, handlers: Mapping[str, Handler]
    ) -> None:
        self._alerts = alerts
        self._authenticate = authenticate
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Authenticate, check scope and rate, and answer."""
        identity = await self._authenticate(scope)
        handler = self._handlers["GET" if scope["method"] == "HEAD" else scope["method"]]
        if handler.scope is not None:
            identity.require_scope(handler.scope)
        wait_seconds = self._alerts.wait_seconds(identity.user_id)
        if wait_seconds:
            raise HTTPException(429, headers={"retry-after": str(wait_seconds)})
        raw = await read_body(receive)
        body = None if handler.takes is None else decode_body(raw, handler.takes, handler.name)
        asked = Asked(identity.user_id, scope["path_params"].get("id", ""), scope["query_string"], body)
        try:
            document = await handler.answer(asked)
        except asyncpg.InvalidParameterValueError as error:
            raise HTTPException(422, f"{error.args[0]}.".capitalize()) from None
        await send_json(scope, send, encode(document), _NO_STORE)


class AlertRest:
    """Alerts, arming and escalation of the token's account."""

    def __init__(self, alerts: Alerts) -> None:
        self._alerts = alerts

    async def list(self, asked: Asked) -> documents.AlertList:
        """GET /alerts: those in the state (``open=true``), the others (``false``), or all."""
        is_open = open_parameter(asked.query_string)
        found = await self._alerts.call(
            lambda driver: alert_calls.list_alerts(driver, asked.user_id, is_open=is_open)
        )
        records = [documents.alert_record(alert_id, alert) for alert_id, alert in found.items()]
        return documents.AlertList(user_id=str(asked.user_id), alerts=records)

    async def one(self, asked: Asked) -> documents.AlertHistory:
        """GET /alerts/{id}."""
        alert_id = id_of(asked, _NO_ALERT)

        async def read(driver: Any) -> documents.AlertHistory:
            found = await alert_calls.list_alerts(driver, asked.user_id, alert=alert_id)
            if not found:
                raise HTTPException(404, _NO_ALERT)
            log = await alert_calls.read_alert_log(driver, asked.user_id, alert_id)
            ((text, alert),) = found.items()
            return documents.AlertHistory(
                user_id=str(asked.user_id),
                alert=documents.alert_record(text, alert),
                log=[documents.log_record(entry) for entry in log],
            )

        return await self._alerts.call(read)

    async def acknowledge(self, asked: Asked) -> documents.AlertDone:
        """POST /alerts/{id}/ack; the same answer the first time and each time after."""
        alert_id, body = id_of(asked, _NO_ALERT), asked.body
        (done,) = await self._alerts.call(
            lambda driver: alert_calls.acknowledge(
                driver, asked.user_id, {alert_id: body.generation}, by_name=body.by, action=body.action
            )
        )
        return _done(done, body.generation)

    async def snooze(self, asked: Asked) -> documents.AlertDone:
        """POST /alerts/{id}/snooze."""
        alert_id, body = id_of(asked, _NO_ALERT), asked.body
        done = await self._alerts.call(
            lambda driver: alert_calls.snooze(
                driver,
                asked.user_id,
                alert_id,
                body.generation,
                seconds=body.seconds,
                by_name=body.by,
                reason=body.reason,
            )
        )
        return _done(done, body.generation)

    async def arming(self, asked: Asked) -> documents.ArmingDocument:
        """GET /arming."""
        arming = await self._alerts.call(lambda driver: alert_calls.read_arming(driver, asked.user_id))
        return documents.arming_document(str(asked.user_id), arming)

    async def arm(self, asked: Asked) -> documents.ArmingDocument:
        """PUT /arming."""
        body = asked.body
        await self._alerts.call(
            lambda driver: alert_calls.set_arming(
                driver, asked.user_id, armed=body.armed, by_name=body.by, until=body.until, reason=body.reason
            )
        )
        return await self.arming(asked)

    async def policy(self, asked: Asked) -> documents.EscalationDocument:
        """GET /escalation."""
        values = await self._alerts.call(lambda driver: alert_calls.read_escalation(driver, asked.user_id))
        return documents.EscalationDocument(user_id=str(asked.user_id), **values)

    async def put_policy(self, asked: Asked) -> documents.EscalationDocument:
        """PUT /escalation."""
        changes = asked.body.changes()
        values = await self._alerts.call(
            lambda driver: alert_calls.put_escalation(driver, asked.user_id, changes)
        )
        return documents.EscalationDocument(user_id=str(asked.user_id), **values)


class EndpointRest:
    """Where alerts of the token's account are delivered to."""

    def __init__(self, alerts: Alerts, url_problem: UrlProblem) -> None:
        self._alerts = alerts
        self._url_problem = url_problem

    async def list(self, asked: Asked) -> documents.EndpointList:
        """GET /webhooks."""
        found = await self._alerts.call(lambda driver: alert_calls.list_endpoints(driver, asked.user_id))
        records = [documents.endpoint_record(_own(endpoint, asked.user_id)) for endpoint in found]
        return documents.EndpointList(user_id=str(asked.user_id), endpoints=records)

    async def one(self, asked: Asked) -> documents.EndpointHistory:
        """GET /webhooks/{id}."""
        endpoint_id = id_of(asked, _NO_ENDPOINT)
        endpoint = await self._find(asked.user_id, endpoint_id)
        sent = await self._alerts.call(
            lambda driver: alert_calls.list_deliveries(driver, asked.user_id, endpoint_id)
        )
        return documents.EndpointHistory(
            user_id=str(asked.user_id),
            endpoint=documents.endpoint_record(endpoint),
            deliveries=[documents.delivery_record(each) for each in sent],
        )

    async def add(self, asked: Asked) -> documents.EndpointSecret:
        """POST /webhooks; the secret is in this answer and in no later one."""
        body = asked.body
        self._check_url(body.kind, body.url)
        if len((await self.list(asked)).endpoints) >= MOST_ENDPOINTS:
            raise HTTPException(409, f"The account has {MOST_ENDPOINTS} webhooks: delete one first.")
        endpoint_id = await self._alerts.call(
            lambda driver: alert_calls.put_endpoint(
                driver, asked.user_id, kind=body.kind, url=body.url, description=body.description
            )
        )
        assert endpoint_id is not None
        endpoint = await self._find(asked.user_id, endpoint_id)
        secret = endpoint.secrets[0] if endpoint.secrets else None
        return documents.EndpointSecret(endpoint_id=str(endpoint_id), secret=secret)

    async def change(self, asked: Asked) -> documents.EndpointHistory:
        """PATCH /webhooks/{id}."""
        endpoint_id, body = id_of(asked, _NO_ENDPOINT), asked.body
        if body.url is not None:
            self._check_url((await self._find(asked.user_id, endpoint_id)).kind, body.url)
        found = await self._alerts.call(
            lambda driver: alert_calls.put_endpoint(
                driver,
                asked.user_id,
                endpoint=endpoint_id,
                url=body.url,
                description=body.description,
                enabled=body.enabled,
            )
        )
        if found is None:
            raise HTTPException(404, _NO_ENDPOINT)
        return await self.one(asked)

    async def delete(self, asked: Asked) -> documents.EndpointDeleted:
        """DELETE /webhooks/{id}."""
        endpoint_id = id_of(asked, _NO_ENDPOINT)
        was_there = await self._alerts.call(
            lambda driver: alert_calls.delete_endpoint(driver, asked.user_id, endpoint_id)
        )
        if not was_there:
            raise HTTPException(404, _NO_ENDPOINT)
        return documents.EndpointDeleted(endpoint_id=str(endpoint_id))

    async def test(self, asked: Asked) -> documents.DeliveryDone:
        """POST /webhooks/{id}/test; 409 for an endpoint that is disabled."""
        endpoint_id = id_of(asked, _NO_ENDPOINT)
        delivery = await self._alerts.call(
            lambda driver: alert_calls.send_test(driver, asked.user_id, endpoint_id)
        )
        if delivery is None:
            await self._find(asked.user_id, endpoint_id)
            raise HTTPException(409, "The webhook is disabled: enable it first.")
        return documents.DeliveryDone(endpoint_id=str(endpoint_id), delivery_id=delivery)

    async def rotate(self, asked: Asked) -> documents.EndpointSecret:
        """POST /webhooks/{id}/rotate; 409 for a person, who has no secret."""
        endpoint_id = id_of(asked, _NO_ENDPOINT)
        secret = await self._alerts.call(
            lambda driver: alert_calls.rotate_secret(driver, asked.user_id, endpoint_id)
        )
        if secret is None:
            await self._find(asked.user_id, endpoint_id)
            raise HTTPException(409, "Only a webhook has a secret.")
        return documents.EndpointSecret(endpoint_id=str(endpoint_id), secret=secret)

    async def redeliver(self, asked: Asked) -> documents.DeliveryDone:
        """POST /webhooks/{id}/redeliver; 409 for a message that is not finished, or is not the endpoint's."""
        endpoint_id, delivery = id_of(asked, _NO_ENDPOINT), asked.body.delivery_id
        is_due = await self._alerts.call(
            lambda driver: alert_calls.redeliver(driver, asked.user_id, endpoint_id, delivery)
        )
        if not is_due:
            await self._find(asked.user_id, endpoint_id)
            raise HTTPException(409, "The webhook has no finished message of this number.")
        return documents.DeliveryDone(endpoint_id=str(endpoint_id), delivery_id=delivery)

    async def _find(self, user_id: UUID, endpoint_id: UUID) -> Endpoint:
        """The endpoint of the account; raises HTTPException(404) when it has not got it."""
        found = await self._alerts.call(
            lambda driver: alert_calls.list_endpoints(driver, user_id, endpoint=endpoint_id)
        )
        if not found:
            raise HTTPException(404, _NO_ENDPOINT)
        return _own(found[0], user_id)

    def _check_url(self, kind: str, url: str) -> None:
        problem = self._url_problem(kind, url)
        if problem is not None:
            raise HTTPException(422, f"`url` {problem}.")


def open_parameter(query_string: bytes) -> bool | None:
    """The parameter ``open``, None when it is not there; raises HTTPException(422) for another value."""
    values = parse_qs(query_string.decode("latin-1"), keep_blank_values=True).get("open")
    if values is None:
        return None
    if len(values) > 1 or values[0] not in _FLAGS:
        raise HTTPException(422, "`open` must be `true` or `false`.")
    return _FLAGS[values[0]]


def id_of(asked: Asked, unknown: str) -> UUID:
    """The id in the path; raises HTTPException(404) for any text that is none."""
    found = uuid_of(asked.id)
    if found is None:
        raise HTTPException(404, unknown)
    return found


def _done(done: Acknowledged, generation: int) -> documents.AlertDone:
    if done.outcome == "unknown_alert":
        raise HTTPException(404, _NO_ALERT)
    if done.outcome == "stale_generation":
        raise HTTPException(409, "The alert is in another generation: read it again.")
    return documents.AlertDone(alert_id=str(done.alert_id), generation=generation, revision=done.revision)


def _own(endpoint: Endpoint, user_id: UUID) -> Endpoint:
    if endpoint.user_id != user_id:
        raise count_blocked("endpoint", user_id)
    return endpoint

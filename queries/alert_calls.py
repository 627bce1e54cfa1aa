"""The statements by which nodes and commands acknowledge, arm, attend and deliver.

The connections that are passed in are not in a transaction. An argument that the database refuses raises
`asyncpg.InvalidParameterValueError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import asyncpg

from queries.alerts import ALERT_COLUMNS, alert_of
from realtime.metrics import METRICS
from realtime.owners import count_blocked

#: Stands for every account: endpoints and the policy of the operator.
EVERY_ACCOUNT: Final = UUID("ffffffff-ffff-ffff-ffff-ffffffffffff")

_TIMEOUT_SECONDS: Final = 5.0

#: The outcome for each alert, and the account's revision.
_ACKNOWLEDGE: Final = """
SELECT alert_id, outcome, revision, waited_seconds FROM guardwire.acknowledge($1, $2, $3, $4, $5)
"""
_SNOOZE: Final = "SELECT alert_id, outcome, revision FROM guardwire.snooze($1, $2, $3, $4, $5, $6)"
_SET_ARMING: Final = "SELECT guardwire.set_arming($1, $2, $3, $4, $5)"
_ARMING: Final = "SELECT armed, since, until, reason, changed_by FROM guardwire.arming WHERE user_id = $1"
_BEAT: Final = "SELECT account, revision FROM guardwire.beat($1, $2, $3, $4)"
_LEAVE: Final = "SELECT guardwire.leave($1, $2, $3)"
_CLAIM: Final = """
SELECT delivery_id, message_id, payload, kind, url, secrets, attempts, deadline_at, user_id, endpoint_id
FROM guardwire.claim_deliveries($1, $2, $3, $4)
"""
_FINISH: Final = "SELECT guardwire.finish_delivery($1, $2, $3, $4, $5)"
_DELIVERS: Final = "SELECT guardwire.delivers()"
#: The seconds until the next message is due, less than 0 when one waits already. A message that is being attempted is
#: due again when its lease is over.
_DUE_IN: Final = """
SELECT extract(epoch FROM min(due_at) - clock_timestamp())::double precision
FROM guardwire.deliveries WHERE finished_at IS NULL
"""
#: Alerts in the state, of all accounts, and armed accounts.
_COUNTS: Final = """
SELECT a.is_open, a.unacknowledged, a.overdue, t.armed, t.attended
FROM (SELECT count(*) FILTER (WHERE s.resolved_at IS NULL) AS is_open,
             count(*) FILTER (WHERE s.acknowledged_at IS NULL) AS unacknowledged,
             count(*) FILTER (WHERE s.resolved_at IS NULL AND s.acknowledged_at IS NULL
                                AND s.deadline_at < clock_timestamp()) AS overdue
      FROM guardwire.alerts AS s WHERE s.resolved_at IS NULL OR s.acknowledged_at IS NULL) AS a,
     (SELECT count(*) FILTER (WHERE s.status <> 'disarmed') AS armed,
             count(*) FILTER (WHERE s.status = 'attended') AS attended
      FROM guardwire.attendance AS s) AS t
"""
_RELEASE: Final = "SELECT guardwire.release_deliveries($1)"
_PUT_ENDPOINT: Final = "SELECT guardwire.put_endpoint($1, $2, $3, $4, $5, $6)"
_DELETE_ENDPOINT: Final = "SELECT guardwire.delete_endpoint($1, $2)"
_ROTATE_SECRET: Final = "SELECT guardwire.rotate_secret($1, $2)"  # noqa: S105 - a statement
_TEST_ENDPOINT: Final = "SELECT guardwire.test_endpoint($1, $2)"
_REDELIVER: Final = "SELECT guardwire.redeliver($1, $2, $3)"
_ENDPOINTS: Final = """
SELECT endpoint_id, user_id, kind, url, secrets, description, created_at, disabled_at, disabled_reason
FROM guardwire.endpoints WHERE user_id = $1 AND endpoint_id = coalesce($2, endpoint_id) ORDER BY created_at, endpoint_id
"""
#: The newest messages to an endpoint.
_DELIVERIES: Final = """
SELECT d.delivery_id, d.message_id, d.alert_id, d.generation, d.level, d.created_at, d.due_at, d.attempts,
       d.finished_at, d.outcome, d.last_status
FROM guardwire.deliveries AS d JOIN guardwire.endpoints AS e ON e.endpoint_id = d.endpoint_id
WHERE e.user_id = $1 AND d.endpoint_id = $2 ORDER BY d.delivery_id DESC LIMIT $3
"""
_PUT_ESCALATION: Final = "SELECT (guardwire.put_escalation($1, $2)).*"
_ESCALATION: Final = """
SELECT e.* FROM guardwire.escalation AS e WHERE e.user_id IN ($1, guardwire.no_account())
ORDER BY e.user_id = guardwire.no_account() LIMIT 1
"""
#: An account's alerts in the state, the others, or (with null) all; newest first.
_ALERTS: Final = f"""
SELECT record_send(ROW({ALERT_COLUMNS}, true)), a.user_id FROM guardwire.alerts AS a
WHERE a.user_id = $1 AND ($2::boolean IS NULL OR (a.resolved_at IS NULL OR a.acknowledged_at IS NULL) = $2)
  AND a.alert_id = coalesce($3, a.alert_id)
ORDER BY a.raised_at DESC, a.alert_id LIMIT $4
"""  # noqa: S608 - put together from constants alone
_ALERT_LOG: Final = """
SELECT generation, at, entry, who, detail::text FROM guardwire.alert_log
WHERE user_id = $1 AND alert_id = $2 ORDER BY log_id DESC LIMIT $3
"""

_MOST_LISTED: Final = 200

Action = Literal["received", "acting", "done"]
Outcome = Literal["delivered", "failed", "gone"]


class Acknowledged(NamedTuple):
    """The outcome for one alert, and the account's revision after the call.

    ``outcome`` is ``acknowledged``, ``already``, ``snoozed``, ``unknown_alert`` or ``stale_generation``.
    ``waited_seconds`` is the time since the raise, None unless nobody had acknowledged before.
    """

    alert_id: UUID
    outcome: str
    revision: int
    waited_seconds: float | None = None


class AlertCounts(NamedTuple):
    """How many alerts and accounts there are, of all accounts; ``overdue`` alerts are open beyond their deadline."""

    open: int
    unacknowledged: int
    overdue: int
    armed: int
    attended: int


class Arming(NamedTuple):
    """Whether an account is armed; ``until`` is when one that is not will be again."""

    armed: bool
    since: datetime | None = None
    until: datetime | None = None
    reason: str | None = None
    changed_by: str | None = None


class Beat(NamedTuple):
    """One bot's beat in one account, which came ``age_seconds`` ago."""

    account: UUID
    name: str
    lease_seconds: float
    age_seconds: float = 0.0


class Claim(NamedTuple):
    """A message that this node has to attempt now; ``payload`` is the webhook's body."""

    delivery_id: int
    message_id: str
    payload: str
    kind: str
    url: str
    secrets: list[str]
    #: Attempts that were begun, with this one.
    attempts: int
    deadline_at: datetime | None
    user_id: UUID
    endpoint_id: UUID


class Endpoint(NamedTuple):
    """Where alerts are delivered to; ``secrets`` are of webhooks alone, newest first."""

    endpoint_id: UUID
    user_id: UUID
    kind: str
    url: str
    secrets: list[str]
    description: str | None
    created_at: datetime
    disabled_at: datetime | None
    disabled_reason: str | None


class Delivery(NamedTuple):
    """A message to an endpoint, as far as it is on record; ``outcome`` is None until it is finished."""

    delivery_id: int
    message_id: str
    alert_id: UUID
    generation: int
    level: int
    created_at: datetime
    due_at: datetime
    attempts: int
    finished_at: datetime | None
    outcome: str | None
    last_status: int | None


class LogEntry(NamedTuple):
    """One line of an alert's log."""

    generation: int
    at: datetime
    entry: str
    who: str | None
    detail: dict[str, Any] | None


async def acknowledge(
    driver: asyncpg.Connection,
    account: UUID,
    alerts: Mapping[UUID, int],
    *,
    by_name: str,
    action: Action = "received",
) -> list[Acknowledged]:
    """Acknowledge alerts, each in a generation; the outcome for each, in the order given."""
    arguments = list(alerts), list(alerts.values()), by_name, action
    rows = await driver.fetch(_ACKNOWLEDGE, account, *arguments, timeout=_TIMEOUT_SECONDS)
    done = [Acknowledged(*row) for row in rows]
    for each in done:
        if each.waited_seconds is not None:
            METRICS.acknowledgement_seconds.observe(each.waited_seconds)
    return done


async def snooze(
    driver: asyncpg.Connection,
    account: UUID,
    alert: UUID,
    generation: int,
    *,
    seconds: int,
    by_name: str,
    reason: str,
) -> Acknowledged:
    """Put the escalation of an alert off for 1 to 3,600 seconds."""
    arguments = alert, generation, seconds, by_name, reason
    return Acknowledged(*await driver.fetchrow(_SNOOZE, account, *arguments, timeout=_TIMEOUT_SECONDS))


async def list_alerts(
    driver: asyncpg.Connection,
    account: UUID,
    *,
    is_open: bool | None = None,
    alert: UUID | None = None,
    most: int = _MOST_LISTED,
) -> dict[str, dict[str, Any]]:
    """An account's alerts by id, in the form of the state, newest first; ``is_open`` None gives all.

    Raises WrongOwner for a row of another account.
    """
    rows = await driver.fetch(_ALERTS, account, is_open, alert, most, timeout=_TIMEOUT_SECONDS)
    if any(row[1] != account for row in rows):
        raise count_blocked("alert", account)
    return dict(alert_of(row[0]) for row in rows)


async def read_alert_log(
    driver: asyncpg.Connection, account: UUID, alert: UUID, *, most: int = _MOST_LISTED
) -> list[LogEntry]:
    """The newest entries of an alert's log, oldest first."""
    rows = await driver.fetch(_ALERT_LOG, account, alert, most, timeout=_TIMEOUT_SECONDS)
    return [
        LogEntry(generation, at, entry, who, detail and json.loads(detail))
        for generation, at, entry, who, detail in reversed(rows)
    ]


async def set_arming(
    driver: asyncpg.Connection,
    account: UUID,
    *,
    armed: bool,
    by_name: str,
    until: datetime | None = None,
    reason: str | None = None,
) -> int:
    """Arm an account, or disarm it ``until`` a moment within a day, for a ``reason``; the revision."""
    arguments = armed, until, reason, by_name
    revision: int = await driver.fetchval(_SET_ARMING, account, *arguments, timeout=_TIMEOUT_SECONDS)
    return revision


async def read_arming(driver: asyncpg.Connection, account: UUID) -> Arming:
    """Whether an account is armed; one that never was is not."""
    row = await driver.fetchrow(_ARMING, account, timeout=_TIMEOUT_SECONDS)
    return Arming(armed=False) if row is None else Arming(*row)


async def beat(driver: asyncpg.Connection, beats: Iterable[Beat]) -> dict[UUID, int]:
    """Note beats of many accounts; the revisions of those whose shown attendance changed."""
    columns = list(zip(*beats, strict=True)) or [(), (), (), ()]
    rows = await driver.fetch(_BEAT, *map(list, columns), timeout=_TIMEOUT_SECONDS)
    return dict(rows)


async def leave(driver: asyncpg.Connection, account: UUID, name: str, *, reason: str | None = None) -> int:
    """End the attendance of a bot that says goodbye; the account's revision."""
    revision: int = await driver.fetchval(_LEAVE, account, name, reason, timeout=_TIMEOUT_SECONDS)
    return revision


async def claim_deliveries(
    driver: asyncpg.Connection, *, node: str, most: int, lease_seconds: float, under_way: Iterable[int] = ()
) -> list[Claim]:
    """Take due messages for ``node``, which has to finish each within the lease; [] while deliveries are held.

    ``under_way`` are the deliveries that the node attempts already: one account gets a share of the node's places.
    """
    arguments = most, lease_seconds, list(under_way)
    rows = await driver.fetch(_CLAIM, node, *arguments, timeout=_TIMEOUT_SECONDS)
    return [Claim(*row) for row in rows]


async def finish_delivery(
    driver: asyncpg.Connection,
    delivery: int,
    *,
    node: str,
    outcome: Outcome,
    http_status: int | None = None,
    retry_after_seconds: float | None = None,
) -> None:
    """Note what became of an attempt; a ``failed`` one is tried again by the schedule."""
    arguments = node, outcome, http_status, retry_after_seconds
    await driver.fetchval(_FINISH, delivery, *arguments, timeout=_TIMEOUT_SECONDS)


async def read_due_in(driver: asyncpg.Connection) -> float | None:
    """The seconds until the next message is due, less than 0 when one waits already; None when there is none."""
    due_in_seconds: float | None = await driver.fetchval(_DUE_IN, timeout=_TIMEOUT_SECONDS)
    return due_in_seconds


async def read_counts(driver: asyncpg.Connection) -> AlertCounts:
    """How many alerts and armed accounts there are."""
    return AlertCounts(*await driver.fetchrow(_COUNTS, timeout=_TIMEOUT_SECONDS))


async def delivers(driver: asyncpg.Connection) -> bool:
    """Whether messages are sent; on a restored or copied database an operator has to release them first."""
    is_released: bool = await driver.fetchval(_DELIVERS, timeout=_TIMEOUT_SECONDS)
    return is_released


async def release_deliveries(driver: asyncpg.Connection, *, discard: bool = False) -> int:
    """Let this database's server deliver; how many messages wait, which are dropped with ``discard``."""
    waiting: int = await driver.fetchval(_RELEASE, discard, timeout=_TIMEOUT_SECONDS)
    return waiting


async def put_endpoint(
    driver: asyncpg.Connection,
    account: UUID,
    *,
    endpoint: UUID | None = None,
    kind: str | None = None,
    url: str | None = None,
    description: str | None = None,
    enabled: bool | None = None,
) -> UUID | None:
    """Add an endpoint, or change the values of one that are not None; its id, None when the account has not got it."""
    arguments = endpoint, kind, url, description, enabled
    found: UUID | None = await driver.fetchval(_PUT_ENDPOINT, account, *arguments, timeout=_TIMEOUT_SECONDS)
    return found


async def list_endpoints(
    driver: asyncpg.Connection, account: UUID, *, endpoint: UUID | None = None
) -> list[Endpoint]:
    """An account's endpoints, oldest first, with their secrets."""
    rows = await driver.fetch(_ENDPOINTS, account, endpoint, timeout=_TIMEOUT_SECONDS)
    return [Endpoint(*row) for row in rows]


async def list_deliveries(
    driver: asyncpg.Connection, account: UUID, endpoint: UUID, *, most: int = _MOST_LISTED
) -> list[Delivery]:
    """The newest messages to an endpoint of an account, newest first."""
    rows = await driver.fetch(_DELIVERIES, account, endpoint, most, timeout=_TIMEOUT_SECONDS)
    return [Delivery(*row) for row in rows]


async def delete_endpoint(driver: asyncpg.Connection, account: UUID, endpoint: UUID) -> bool:
    """Delete an endpoint; whether the account had it."""
    was_there: bool = await driver.fetchval(_DELETE_ENDPOINT, account, endpoint, timeout=_TIMEOUT_SECONDS)
    return was_there


async def rotate_secret(driver: asyncpg.Connection, account: UUID, endpoint: UUID) -> str | None:
    """Give a webhook a new secret, beside the one before; None when the account has no such webhook."""
    secret: str | None = await driver.fetchval(_ROTATE_SECRET, account, endpoint, timeout=_TIMEOUT_SECONDS)
    return secret


async def send_test(driver: asyncpg.Connection, account: UUID, endpoint: UUID) -> int | None:
    """Send a test message; its delivery, None for an endpoint that is not there or disabled."""
    delivery: int | None = await driver.fetchval(_TEST_ENDPOINT, account, endpoint, timeout=_TIMEOUT_SECONDS)
    return delivery


async def redeliver(driver: asyncpg.Connection, account: UUID, endpoint: UUID, delivery: int) -> bool:
    """Send a finished message again under its id; whether there was one."""
    is_due: bool = await driver.fetchval(_REDELIVER, account, endpoint, delivery, timeout=_TIMEOUT_SECONDS)
    return is_due


async def put_escalation(
    driver: asyncpg.Connection, account: UUID, changes: Mapping[str, int]
) -> dict[str, int]:
    """Change values of an account's policy; all its values in seconds, by name."""
    row = await driver.fetchrow(_PUT_ESCALATION, account, json.dumps(dict(changes)), timeout=_TIMEOUT_SECONDS)
    return _policy(row)


async def read_escalation(driver: asyncpg.Connection, account: UUID) -> dict[str, int]:
    """The values of an account's policy in seconds, by name; the defaults where it has none."""
    return _policy(await driver.fetchrow(_ESCALATION, account, timeout=_TIMEOUT_SECONDS))


def _policy(row: Mapping[str, Any]) -> dict[str, int]:
    return {name: value for name, value in row.items() if name != "user_id"}

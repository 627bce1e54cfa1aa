"""Channel `alerts`: what somebody has to act on, who acknowledged it, and who attends the account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from guardwire.patch import State
from queries.live_query import LiveQuery
from queries.records import Remembered, read

#: An alert's columns in the order of `_FIELDS`.
ALERT_COLUMNS: Final = """
    a.alert_id, a.generation, a.kind, a.severity, a.subject, a.symbol, a.condition_type, a.first_raised_at, a.raised_at,
    a.deadline_at, a.occurrences, a.observed, a.limit_value, a.acknowledged_by, a.acknowledged_at,
    a.acknowledged_action, a.hold_until, a.snoozed_until, a.level, a.resolved_at, a.voided_at"""

_COLUMNS = f"""
       ARRAY(SELECT record_send(ROW({ALERT_COLUMNS}, a.user_id = watched.user_id))
             FROM guardwire.alerts AS a
             WHERE a.user_id = watched.user_id AND (a.resolved_at IS NULL OR a.acknowledged_at IS NULL)) AS open_alerts,
       ARRAY(SELECT record_send(ROW(t.status, t.status_since,
                                    CASE t.status WHEN 'unattended' THEN t.grace_until END,
                                    t.user_id = watched.user_id))
             FROM guardwire.attendance AS t
             WHERE t.user_id = watched.user_id) AS attendance,
       ARRAY(SELECT record_send(ROW(t.name, t.since, t.user_id = watched.user_id))
             FROM guardwire.attendants AS t
             WHERE t.user_id = watched.user_id AND t.left_at IS NULL) AS attendants
"""  # noqa: S608 - put together from constants alone

#: States that are shared between reads.
_ALERTS_REMEMBERED: Final = 16_384
_FIELDS: Final = (
    "generation", "kind", "severity", "subject", "symbol", "condition_type", "first_raised_at", "raised_at",
    "deadline_at", "occurrences", "observed", "limit", "acknowledged_by", "acknowledged_at", "action", "hold_until",
    "snoozed_until", "level", "resolved_at", "voided_at",
)  # fmt: skip


def _shape(row: Mapping[str, Any]) -> State:
    return _remembered((tuple(row["open_alerts"]), tuple(row["attendance"]), tuple(row["attendants"])))


def _alerts(records: tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[bytes, ...]]) -> State:
    alert_records, attendance_records, attendant_records = records
    found = dict(map(alert_of, alert_records))
    return {
        "unacknowledged": sum("acknowledged_at" not in alert for alert in found.values()),
        "open": found,
        "attendance": _attendance(attendance_records)
        | {"attendants": dict(map(_attendant, attendant_records))},
    }


def alert_of(record: bytes) -> tuple[str, State]:
    """The id of an alert and its state, from a record of `ALERT_COLUMNS` and one more."""
    alert_id, *values, _ = read(record)
    fields = zip(_FIELDS, values, strict=True)
    return alert_id, {name: value for name, value in fields if value is not None}


def _attendance(records: tuple[bytes, ...]) -> State:
    if not records:
        return {"armed": False, "status": "disarmed"}
    status, since, grace_until, _ = read(records[0])
    state: State = {"armed": status != "disarmed", "status": status, "since": since}
    return state if grace_until is None else state | {"grace_until": grace_until}


def _attendant(record: bytes) -> tuple[str, State]:
    name, since, _ = read(record)
    return name, {"since": since}


_remembered = Remembered(_alerts, most=_ALERTS_REMEMBERED)
ALERTS = LiveQuery("alerts", _COLUMNS, _shape, collections=("open_alerts", "attendance", "attendants"))

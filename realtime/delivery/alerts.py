"""Performs in PostgreSQL what clients send about alerts: acknowledgements, snoozes, beats and goodbyes."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from guardwire.errors import CloseCode
from guardwire.messages import Ack, AckOk, AlertFrame, Attend, Error, Leave, Snooze, SnoozeOk
from queries import alert_calls
from queries.alert_calls import Beat
from realtime.database import DATABASE_ERRORS, borrow
from realtime.delivery.attendance import MOST_NAMES, Attendance
from realtime.delivery.limits import RateLimit
from realtime.delivery.stream import Reply, refuse, retry_after_ms
from realtime.errors import UnavailableError

log = logging.getLogger(__name__)

#: Statements about alerts that one user gets on one node, over all transports: each locks the account for a moment.
PER_SECOND: Final = 20
BURST: Final = 40

#: The same for an alert of another account and for one that nobody has.
_UNKNOWN: Final = Error(code="unknown_alert", message="the account has no such alert", retry=False)
_STALE: Final = Error(
    code="stale_generation", message="the alert is not in this generation: the state has it", retry=False
)
_REFUSALS: Final = {"unknown_alert": _UNKNOWN, "stale_generation": _STALE}

Result = TypeVar("Result")


class Alerts:
    """The alerts of all accounts, for the stream and for REST."""

    def __init__(self, *, engine: AsyncEngine) -> None:
        self._engine = engine
        self._limit = RateLimit(per_second=PER_SECOND, burst=BURST)
        self.attendance = Attendance(write=self._write_beats)

    async def call(self, work: Callable[[asyncpg.Connection], Awaitable[Result]]) -> Result:
        """The result of ``work`` on a connection of the pool; raises UnavailableError while PostgreSQL cannot answer,
        and `asyncpg.InvalidParameterValueError` for an argument that it refuses.
        """
        try:
            async with borrow(self._engine) as driver:
                return await work(driver)
        except asyncpg.InvalidParameterValueError:
            raise
        except DATABASE_ERRORS as error:
            log.warning("alerts cannot be reached: %s", type(error).__name__)
            raise UnavailableError("The database cannot be reached now; try again in a moment.") from error

    def wait_seconds(self, user_id: UUID) -> int:
        """0 when a statement for ``user_id`` may be run, which is counted then; else whole seconds to wait."""
        return self._limit.wait_seconds(user_id, time.monotonic())

    async def perform(self, user_id: UUID, frame: AlertFrame) -> Sequence[Reply]:
        """Perform ``frame`` for the account of ``user_id``; the replies, of which an `Attend` gets none.

        It raises nothing over the database: the stream goes on.
        """
        if isinstance(frame, Attend):
            is_noted = self.attendance.beat(user_id, frame.by, frame.lease_seconds, time.monotonic())
            return [] if is_noted else [_TOO_MANY_NAMES]
        wait_seconds = self.wait_seconds(user_id)
        if wait_seconds:
            return _too_often(frame, wait_seconds)
        try:
            match frame:
                case Ack():
                    return await self._acknowledge(user_id, frame)
                case Snooze():
                    return await self._snooze(user_id, frame)
                case Leave():
                    await self.leave(user_id, frame.by, frame.reason)
                    return []
        except UnavailableError:
            return unavailable(frame)

    async def leave(self, user_id: UUID, name: str, reason: str | None) -> None:
        """End the attendance of a bot; a beat of it that is under way is written before."""
        self.attendance.forget(user_id, name)
        async with self.attendance.writing:
            await self.call(lambda driver: alert_calls.leave(driver, user_id, name, reason=reason))

    async def _acknowledge(self, user_id: UUID, frame: Ack) -> list[Reply]:
        # An id that is no UUID in its usual form is one that no alert has.
        known = {uuid: generation for text, generation in frame.alerts.items() if (uuid := uuid_of(text))}
        if not known:
            return replies_to_ack(frame, {}, 0)
        found = await self.call(
            lambda driver: alert_calls.acknowledge(
                driver, user_id, known, by_name=frame.by, action=frame.action
            )
        )
        return replies_to_ack(frame, {str(each.alert_id): each.outcome for each in found}, found[0].revision)

    async def _snooze(self, user_id: UUID, frame: Snooze) -> list[Reply]:
        alert = uuid_of(frame.alert)
        if alert is None:
            return list(refuse(frame, _UNKNOWN))
        done = await self.call(
            lambda driver: alert_calls.snooze(
                driver,
                user_id,
                alert,
                frame.generation,
                seconds=frame.seconds,
                by_name=frame.by,
                reason=frame.reason,
            )
        )
        refusal = _REFUSALS.get(done.outcome)
        if refusal is not None:
            return list(refuse(frame, refusal))
        return [SnoozeOk(alert=frame.alert, generation=frame.generation, revision=done.revision)]

    async def _write_beats(self, beats: Sequence[Beat]) -> None:
        gathered_at = time.monotonic()

        async def write(driver: asyncpg.Connection) -> None:
            # A new connection takes a while, and an age that is too low would undo a leave on another node.
            waited_seconds = time.monotonic() - gathered_at
            await alert_calls.beat(
                driver, [beat._replace(age_seconds=beat.age_seconds + waited_seconds) for beat in beats]
            )

        await self.call(write)


_TOO_MANY_NAMES: Final = Error(
    code="rate_limited",
    message=f"more than {MOST_NAMES} names attend the account",
    retry=True,
    retry_after_ms=60_000,
)


def _too_often(frame: AlertFrame, wait_seconds: int) -> list[Error]:
    why = f"more than {PER_SECOND} frames about alerts a second"
    error = Error(code="rate_limited", message=why, retry=True, retry_after_ms=1000 * wait_seconds)
    return refuse(frame, error)


def unavailable(frame: AlertFrame) -> list[Error]:
    """The answer to ``frame`` while PostgreSQL cannot be reached; the stream goes on."""
    why = "the database cannot be reached now"
    hint_ms = retry_after_ms(CloseCode.OVERLOADED)
    return refuse(frame, Error(code="unavailable", message=why, retry=True, retry_after_ms=hint_ms))


def replies_to_ack(frame: Ack, outcomes: Mapping[str, str], revision: int) -> list[Reply]:
    """The replies to ``frame``; ``outcomes`` says what became of its alerts, and of an unknown one nothing."""
    refused = {alert: _REFUSALS.get(outcomes.get(alert, "unknown_alert")) for alert in frame.alerts}
    done = {alert: generation for alert, generation in frame.alerts.items() if refused[alert] is None}
    replies: list[Reply] = [AckOk(alerts=done, revision=revision)] if done else []
    for alert, error in refused.items():
        if error is not None:
            replies.append(msgspec.structs.replace(error, alert=alert))
    return replies


def uuid_of(text: str) -> UUID | None:
    """The UUID that ``text`` spells in the usual form; None for any other text, because an id has one spelling."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None

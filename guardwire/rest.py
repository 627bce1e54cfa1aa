"""Acknowledgements and snoozes over REST, where no frame can be sent."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import quote

import msgspec

from guardwire.endings import LinkEnded, lost
from guardwire.http import HttpConnection, Response, open_http
from guardwire.link import Opening
from guardwire.messages import Ack, AckOk, Error, ServerFrame, Snooze, SnoozeOk

_ALERTS: Final = "/api/v1/alerts"
#: A small document that every server with alerts has.
_ARMING: Final = "/api/v1/arming"
_ANSWER_SECONDS: Final = 10.0
_MAX_ANSWER_BYTES: Final = 65_536
_CODES: Final = {403: "not_allowed", 404: "unknown_alert", 409: "stale_generation"}
_REFUSED: Final = frozenset({400, 403, 404, 405, 409, 422})


class _Answer(msgspec.Struct):
    """The part of an answer that the client reads: of a document, or of a problem document."""

    revision: int = 0
    detail: str = ""


async def request(opening: Opening, frame: Ack | Snooze) -> ServerFrame:
    """The answer to ``frame``, which is of one alert, as the stream would give it; raises LinkEnded for no answer."""
    fields: dict[str, str | int]
    if isinstance(frame, Ack):
        ((alert, generation),) = frame.alerts.items()
        path, fields = "ack", {"action": frame.action}
    else:
        alert, generation = frame.alert, frame.generation
        path, fields = "snooze", {"seconds": frame.seconds, "reason": frame.reason}
    document = msgspec.json.encode({"generation": generation, "as": frame.by, **fields})
    response, answer = await _exchange(opening, f"{_ALERTS}/{quote(alert, safe='')}/{path}", document)
    if response.status != 200:
        return _error(response, answer, alert)
    if isinstance(frame, Ack):
        return AckOk(alerts={alert: generation}, revision=answer.revision)
    return SnoozeOk(alert=alert, generation=generation, revision=answer.revision)


async def has_alerts(opening: Opening) -> bool:
    """Whether the server knows alerts; raises LinkEnded when it does not say."""
    response, _ = await _exchange(opening, _ARMING, None)
    if response.status not in (200, 404):
        raise lost(f"HTTP {response.status}")
    return response.status == 200


async def _exchange(opening: Opening, route: str, document: bytes | None) -> tuple[Response, _Answer]:
    headers = {"Authorization": f"Bearer {opening.token}", "Cache-Control": "no-store"}
    path = opening.address.prefix + route
    connection = await open_http(opening)
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            if document is None:
                response = await connection.get(path, headers)
            else:
                response = await connection.post(path, headers, document)
            return response, await _read(connection)
    except TimeoutError as error:
        raise lost("no answer in time") from error
    finally:
        connection.abort()


async def _read(connection: HttpConnection) -> _Answer:
    body = await connection.body(_MAX_ANSWER_BYTES)
    try:
        return msgspec.json.decode(body, type=_Answer)
    except msgspec.DecodeError:
        return _Answer()


def _error(response: Response, answer: _Answer, alert: str) -> Error:
    after = response.headers.get("retry-after", "")
    return Error(
        code=_CODES.get(response.status, "unavailable"),
        message=f"HTTP {response.status} {answer.detail}".rstrip(),
        retry=response.status not in _REFUSED,
        retry_after_ms=1000 * int(after) if after.isdecimal() else None,
        alert=alert,
    )


async def answer_to(opening: Opening, frame: Ack | Snooze) -> ServerFrame:
    """As `request`; no answer is an error that is tried again."""
    try:
        return await request(opening, frame)
    except LinkEnded as ended:
        alert = next(iter(frame.alerts)) if isinstance(frame, Ack) else frame.alert
        return Error(code="unavailable", message=ended.ending.reason, retry=True, alert=alert)

"""The same frames by one request after another, for networks in which a proxy holds streams back."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Final

from guardwire.endings import LinkEnded, from_response, lost
from guardwire.http import HttpConnection, Response, open_http
from guardwire.link import MAX_FRAME_BYTES, Opening, decode_frame
from guardwire.messages import ClientFrame, Heartbeat, ServerFrame

_PATH: Final = "/api/v1/state"
#: How long the server may hold a request: as often as heartbeats come, and well below the 15 s of a blind client.
WAIT_SECONDS: Final = 5
#: A server that has not answered after this is taken for dead.
_ANSWER_SECONDS: Final = WAIT_SECONDS + 10.0
_NUMBER: Final = re.compile(r"[0-9]{1,16}")
#: The age of an answer that names none: too old to pass for fresh.
_UNKNOWN_AGE_MS: Final = 2**53 - 1


class LongPollTransport:
    """A `guardwire.link.Transport`."""

    is_in_band = False

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._connection: HttpConnection | None = None
        self._next_round_at = 0.0
        self._is_ended = False

    async def receive(self) -> ServerFrame:
        while True:
            await asyncio.sleep(self._next_round_at - time.monotonic())
            self._next_round_at = time.monotonic() + self._opening.timing.poll_round_seconds
            resume_point = self._opening.resume_point()
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    frame = await self._request(resume_point)
            except TimeoutError as error:
                raise lost("no answer in time") from error
            if frame is not None:
                return frame

    async def send(self, frame: ClientFrame) -> None:
        raise NotImplementedError("a long poll carries no frames to the server")

    def abort(self) -> None:
        self._is_ended = True
        if self._connection is not None:
            self._connection.abort()

    async def close(self) -> None:
        self._is_ended = True
        if self._connection is not None:
            await self._connection.close()

    async def _request(self, resume_point: str | None) -> ServerFrame | None:
        response = await self._get(resume_point)
        assert self._connection is not None
        body = await self._connection.body(MAX_FRAME_BYTES)
        if response.status == 304 and resume_point is not None:
            return heartbeat_of(response, resume_point)
        if response.status != 200:
            raise from_response(response.status, response.headers, body, transport_refused=False)
        return decode_frame(body)

    async def _get(self, resume_point: str | None) -> Response:
        kept = self._connection
        if kept is not None and kept.is_reusable:
            try:
                return await kept.get(*self._target(resume_point))
            except LinkEnded:
                # The server may have closed an idle connection at the moment when this request used it again.
                if self._is_ended:
                    raise
        if kept is not None:
            kept.abort()
        self._connection = await open_http(self._opening)
        if self._is_ended:
            self._connection.abort()
        return await self._connection.get(*self._target(resume_point))

    def _target(self, resume_point: str | None) -> tuple[str, dict[str, str]]:
        wait = None if resume_point is None else str(WAIT_SECONDS)
        path = self._opening.address.path(
            _PATH, channels=",".join(self._opening.channels), since=resume_point, wait=wait
        )
        return path, {"Authorization": f"Bearer {self._opening.token}", "Cache-Control": "no-store"}


def heartbeat_of(response: Response, resume_point: str) -> Heartbeat:
    """A 304 as a heartbeat; without an age the heartbeat cannot make the state fresh."""
    base = int(resume_point.split(":")[1])
    age, revision = (response.headers.get(f"guardwire-{name}", "") for name in ("age-ms", "revision"))
    return Heartbeat(
        base=base,
        # The account may have changed in channels that were not asked for.
        revision=max(base, int(revision)) if _NUMBER.fullmatch(revision) else base,
        as_of=response.headers.get("guardwire-as-of", ""),
        age_ms=int(age) if _NUMBER.fullmatch(age) else _UNKNOWN_AGE_MS,
        stale=response.headers.get("guardwire-stale") == "true",
    )


async def open_long_poll(opening: Opening) -> LongPollTransport:
    """A transport that sends its first request when it is first read."""
    return LongPollTransport(opening)

"""The same frames by one request after another: where something in between holds streams back."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Final

from guardwire.ending import LinkEnded, answered, lost
from guardwire.http import HttpConnection, Response, open_http
from guardwire.link import Opening, decode
from guardwire.messages import ClientFrame, Heartbeat, ServerFrame
from guardwire.websocket import MAX_FRAME_BYTES

_PATH: Final = "/api/v1/state"
#: How long the server may hold a request: as heartbeats come, and well under the 15 s after which a client is
#: blind.
WAIT_SECONDS: Final = 5
#: A server that holds a request and does not answer is as good as gone.
_ANSWER_SECONDS: Final = WAIT_SECONDS + 10.0
#: A busy account answers at once; then this is the pace, in requests begun.
_SHORTEST_ROUND_SECONDS: Final = 1.0
_NUMBER: Final = re.compile(r"[0-9]{1,16}")
#: Nobody can take this for fresh; what an answer without an age is worth.
_UNKNOWN_AGE_MS: Final = 2**53 - 1


class LongPollLink:
    """A `guardwire.link.Link`."""

    in_band = False

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._connection: HttpConnection | None = None
        self._next_round = 0.0
        self._ended = False

    async def receive(self) -> ServerFrame:
        while True:
            await asyncio.sleep(self._next_round - time.monotonic())
            self._next_round = time.monotonic() + _SHORTEST_ROUND_SECONDS
            position = self._opening.position()
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    frame = await self._round(position)
            except TimeoutError as error:
                raise lost("no answer in time") from error
            if frame is not None:
                return frame

    async def send(self, frame: ClientFrame) -> None:
        raise NotImplementedError("a long poll has no way up")

    def abort(self) -> None:
        self._ended = True
        if self._connection is not None:
            self._connection.abort()

    async def close(self) -> None:
        self._ended = True
        if self._connection is not None:
            await self._connection.close()

    async def _round(self, position: str | None) -> ServerFrame | None:
        response = await self._ask(position)
        assert self._connection is not None
        body = await self._connection.body(MAX_FRAME_BYTES)
        if response.status == 304 and position is not None:
            return unchanged(response, position)
        if response.status != 200:
            raise answered(response.status, response.headers, body, transport_refused=False)
        return decode(body)

    async def _ask(self, position: str | None) -> Response:
        kept = self._connection
        if kept is not None and kept.reusable:
            try:
                return await kept.get(*self._request(position))
            except LinkEnded:
                # The server may have hung up on a quiet connection in the very moment that it was used again.
                if self._ended:
                    raise
        if kept is not None:
            kept.abort()
        self._connection = await open_http(self._opening.address, self._opening.tls)
        if self._ended:
            self._connection.abort()
        return await self._connection.get(*self._request(position))

    def _request(self, position: str | None) -> tuple[str, dict[str, str]]:
        wait = None if position is None else str(WAIT_SECONDS)
        path = self._opening.address.path(
            _PATH, channels=",".join(self._opening.channels), since=position, wait=wait
        )
        return path, {"Authorization": f"Bearer {self._opening.token}", "Cache-Control": "no-store"}


def unchanged(response: Response, position: str) -> Heartbeat:
    """A 304 as the heartbeat that it is; without an age it confirms nothing that could pass for fresh."""
    base = int(position.split(":")[1])
    age, revision = (response.headers.get(f"guardwire-{name}", "") for name in ("age-ms", "revision"))
    return Heartbeat(
        base=base,
        # What changed since may be in channels that were not asked for.
        revision=max(base, int(revision)) if _NUMBER.fullmatch(revision) else base,
        as_of=response.headers.get("guardwire-as-of", ""),
        age_ms=int(age) if _NUMBER.fullmatch(age) else _UNKNOWN_AGE_MS,
        stale=response.headers.get("guardwire-stale") == "true",
    )


async def open_long_poll(opening: Opening) -> LongPollLink:
    """A link that asks when it is read."""
    return LongPollLink(opening)

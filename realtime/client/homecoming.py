"""Finds out whether a transport gets through, without giving up the one that serves meanwhile."""

from __future__ import annotations

import asyncio

from realtime.client.link import Link, Opening
from realtime.client.link_life import FIRST_FRAME_WITHIN_SECONDS
from realtime.client.transports import Transport
from realtime.messages import ServerFrame


async def first_answer(transport: Transport, opening: Opening) -> tuple[Link, ServerFrame] | None:
    """An open link and its first frame; None when that does not come in time. Raises LinkEnded."""
    link = await transport.open(opening)
    try:
        async with asyncio.timeout(FIRST_FRAME_WITHIN_SECONDS):
            return link, await link.receive()
    except TimeoutError:
        link.abort()
        return None
    except BaseException:
        link.abort()
        raise

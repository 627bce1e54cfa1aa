"""Finds out whether a transport gets through, without giving up the one that serves meanwhile."""

from __future__ import annotations

import asyncio

from guardwire.link import Link, Opening
from guardwire.link_life import FIRST_FRAME_WITHIN_SECONDS
from guardwire.messages import ServerFrame
from guardwire.transports import Transport


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

"""Opens a link beside the one that serves meanwhile."""

from __future__ import annotations

import asyncio

import msgspec

from guardwire.link import Link, Opening
from guardwire.link_life import FIRST_FRAME_WITHIN_SECONDS
from guardwire.messages import ServerFrame, Welcome
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


async def resumed_link(transport: Transport, opening: Opening) -> tuple[Link, ServerFrame] | None:
    """An open link that was resumed, and its welcome; None when it was not. Raises LinkEnded.

    None also when the client got further on its other link meanwhile: the server would have to send a snapshot, and the
    state would be in doubt until then.
    """
    held = opening.position()
    answer = await first_answer(transport, msgspec.structs.replace(opening, position=lambda: held))
    if answer is None:
        return None
    link, first = answer
    if isinstance(first, Welcome) and first.resumed and opening.position() == held:
        return link, first
    link.abort()
    return None

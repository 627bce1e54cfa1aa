"""What a stream is to carry, and from where: `channels=` and `since=`, the same for every transport. Pure."""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException

from guardwire.messages import Resume
from guardwire.state import CHANNELS
from realtime.delivery.session import channels_in_order
from realtime.store.snapshot import Channels

_POSITION: Final = re.compile(r"([0-9]{1,16}):([0-9]{1,16})")


def channels_parameter(query: QueryParams) -> Channels:
    """The channels asked for, all of them without the parameter; HTTPException(422) for any other name."""
    text = query.get("channels")
    if text is None:
        return CHANNELS
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or set(names) - set(CHANNELS):
        raise HTTPException(422, f"`channels` must be a comma-separated choice of {', '.join(CHANNELS)}.")
    return channels_in_order(names)


def since_parameter(query: QueryParams) -> Resume | None:
    """The position to go on from, None without the parameter; HTTPException(422) when it is none."""
    text = query.get("since")
    if text is None:
        return None
    position = position_of(text)
    if position is None:
        raise HTTPException(
            422, "`since` must be epoch:revision, two whole numbers of a frame that you hold."
        )
    return position


def position_of(text: str) -> Resume | None:
    """The position that ``epoch:revision`` spells, None when it spells none."""
    match = _POSITION.fullmatch(text)
    return None if match is None else Resume(epoch=int(match[1]), revision=int(match[2]))

"""The parameters of REST routes and streams, and the problem for a value that has no meaning. Pure."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import parse_qs
from uuid import UUID

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.types import Scope

from auth.identity import Identity
from guardwire.messages import Resume
from guardwire.state import CHANNELS, DEFAULT_CHANNELS
from realtime.delivery.sent_state import channels_in_order
from realtime.snapshot import Channels

#: Gives the identity behind a request, or raises AuthenticationError.
Authenticate = Callable[[Scope], Awaitable[Identity]]

SYMBOL_PATTERN: Final = "[A-Za-z0-9._#-]{1,20}"
_MAX_PARAMETERS: Final = 16

_SYMBOL = re.compile(SYMBOL_PATTERN)
# UUID() alone would accept braces, URNs and dashes anywhere, and one position would have several addresses.
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


def symbol_parameter(query_string: bytes) -> str | None:
    """The parameter ``symbol``, None when it is not there; raises HTTPException(422) when it names no
    instrument.

    Other parameters mean nothing and are ignored, as HTTP's caches and trackers add their own.
    """
    if not query_string:
        return None
    try:
        parameters = parse_qs(
            query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS
        )
    except ValueError:
        raise HTTPException(
            422, f"A request may have {_MAX_PARAMETERS} parameters at most; leave some out."
        ) from None
    symbols = parameters.get("symbol")
    if symbols is None:
        return None
    if len(symbols) > 1:
        raise HTTPException(
            422, "`symbol` is given more than once: ask for one, or leave it out to get them all."
        )
    if not _SYMBOL.fullmatch(symbols[0]):
        raise HTTPException(422, "`symbol` must be 1 to 20 of letters, digits, `.`, `_`, `#` and `-`.")
    return symbols[0]


def position_id_parameter(text: str) -> UUID:
    """The path's position id; raises HTTPException(422) when it is no UUID.

    The answer is 422 and not 404: anybody knows beforehand that no position has such an id, so the answer reveals
    nothing of any account.
    """
    if not _UUID.fullmatch(text):
        raise HTTPException(
            422, "`position_id` must be a UUID with dashes, as `position_id` in the open positions."
        )
    return UUID(text)


_POSITION: Final = re.compile(r"([0-9]{1,16}):([0-9]{1,16})")


def channels_parameter(query: QueryParams) -> Channels:
    """The channels asked for, `DEFAULT_CHANNELS` without the parameter; HTTPException(422) for any other name."""
    text = query.get("channels")
    if text is None:
        return DEFAULT_CHANNELS
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or set(names) - set(CHANNELS):
        raise HTTPException(422, f"`channels` must be a comma-separated choice of {', '.join(CHANNELS)}.")
    return channels_in_order(names)


def since_parameter(query: QueryParams) -> Resume | None:
    """The position from which to resume, None without the parameter; HTTPException(422) when it is not one."""
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
    """The position that ``text`` gives as ``epoch:revision``; None for any other text."""
    match = _POSITION.fullmatch(text)
    return None if match is None else Resume(epoch=int(match[1]), revision=int(match[2]))

"""Bodies of requests: read within a limit, and decoded strictly."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.types import Receive

MAX_BODY_BYTES: Final = 4096

Taken = TypeVar("Taken")


async def read_body(receive: Receive, *, most_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The whole body; raises HTTPException(413) for one of more than ``most_bytes``."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "The body ended early.")
        body += bytes(message.get("body", b""))
        if len(body) > most_bytes:
            raise HTTPException(413, f"The body may have {most_bytes} bytes.")
        if not message.get("more_body", False):
            return body


def decode_body(body: bytes, form: type[Taken], name: str) -> Taken:
    """``body`` as ``form``; raises HTTPException(422) with the field that is wrong. ``name`` completes "The body is no
    …".
    """
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(422, f"The body is no {name}: {error}.") from None

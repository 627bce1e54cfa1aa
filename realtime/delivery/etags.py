"""Entity tags (RFC 9110, 8.8.3): the position in the database's history that an answer shows.

``"epoch:revision"`` is strong where the document is a function of committed rows alone. Where it also says
what the clock did to it (the time of the read, a countdown) the tag is weak, and a running countdown is part
of it: ``W/"epoch:revision:42"``. A poller that got 304 for a countdown of a minute ago would believe that it
had a minute left.
"""

from __future__ import annotations

import re
from typing import Final

#: What the tags made here look like, as a regular expression that JavaScript reads too.
PATTERN: Final = '^(W/)?"[0-9]+:[0-9]+(:[0-9]+)?"$'

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def strong(epoch: int, revision: int) -> str:
    """The tag of a document that equal revisions make equal."""
    return f'"{epoch}:{revision}"'


def weak(epoch: int, revision: int, countdown_seconds: int | None = None) -> str:
    """The tag of a document that also shows the clock; None when no countdown runs."""
    clock = "" if countdown_seconds is None else f":{countdown_seconds}"
    return f'W/"{epoch}:{revision}{clock}"'


def matches(if_none_match: str, tag: str) -> bool:
    """Whether the header's list names ``tag`` by weak comparison (RFC 9110, 13.1.2), or is ``*``; nonsense
    names nothing.
    """
    if if_none_match.strip() == "*":
        return True
    opaque = tag.removeprefix("W/")
    # The whole header is usually the tag itself, as it was sent.
    return if_none_match == tag or opaque in _TAG.findall(if_none_match)

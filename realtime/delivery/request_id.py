"""The id of a request: the caller's own when it is sane, else made here; it is echoed, logged, and part of
every problem.
"""

from __future__ import annotations

import itertools
import re
import secrets
from typing import Final

from starlette.types import Scope

_SANE = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_KEY: Final = "guardwire.request_id"
_LONGEST_SHOWN: Final = 36

#: An id need not be secret, only unique: a random name of this process and a number cost a tenth of a random
#: id each.
_PROCESS: Final = secrets.token_hex(6)
_numbers = itertools.count(1)


def request_id_of(scope: Scope) -> str:
    """The id of the request in ``scope``: the first ``X-Request-Id`` of at most 64 letters, digits, ``.``,
    ``_`` or ``-``, or a new one.
    """
    known: str | None = scope.get(_KEY)
    if known is None:
        known = scope[_KEY] = _chosen(scope) or f"{_PROCESS}-{next(_numbers):x}"
    return known


def shown_path(scope: Scope) -> str:
    """The path as a log line may show it: what is longer than a user's id might be a credential."""
    return "/".join(part if len(part) <= _LONGEST_SHOWN else "…" for part in scope["path"].split("/"))


def _chosen(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode("ascii") if _SANE.fullmatch(value) else None
    return None

"""What changed between two states, told in paths."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from guardwire.patch import State

Path = tuple[str, ...]

#: Channels and what stands directly in them (collections, the drawdown guard) are always looked into, so that
#: a new record is one change wherever the comparison started; what lies deeper and came or went is told as a
#: whole.
_ALWAYS_OPEN_DEPTH: Final = 2


class Change(NamedTuple):
    """One difference between what its reader saw last and the state at ``revision``.

    ``path`` leads to it: ``("guards", "drawdown", "alert_type")``, or ``("positions", "open", "123")`` for a
    position that came or went. ``new`` and ``old`` are JSON values; None where there is, or was, nothing.
    They are the reader's own.
    """

    path: Path
    new: Any
    old: Any
    channel: str
    revision: int


def differences(old: State, new: State, *, under: Path, revision: int) -> list[Change]:
    """Every change from ``old`` to ``new`` at or below the path ``under``, in the order of ``new``,
    departures last.
    """
    return [
        Change(path, copy.deepcopy(after), copy.deepcopy(before), path[0], revision)
        for path, before, after in _walk((), old, new)
        if path[: len(under)] == under
    ]


def _walk(path: Path, before: Any, after: Any) -> Iterator[tuple[Path, Any, Any]]:
    if before == after:
        return
    both = type(before) is dict and type(after) is dict
    came_or_went = (before is None and type(after) is dict) or (after is None and type(before) is dict)
    if both or (came_or_went and len(path) <= _ALWAYS_OPEN_DEPTH):
        olds, news = before or {}, after or {}
        for key in [*news, *(key for key in olds if key not in news)]:
            yield from _walk((*path, key), olds.get(key), news.get(key))
    else:
        yield path, before, after

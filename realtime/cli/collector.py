"""The garbage collector, told that it serves a process of many connections that live long."""

from __future__ import annotations

import gc
from typing import Final

#: By default 700 new objects make it look. A crowd of thousands that connects at once then makes it look at
#: all that is there, over and over: a third of what each connection costs.
_NEW_OBJECTS: Final = 50_000
_ROUNDS: Final = 20


def collect_seldom() -> None:
    """Look seldom, and never again at what the program itself consists of: call it when all is imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _ROUNDS, _ROUNDS)

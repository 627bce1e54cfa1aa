"""Every fault that is injected, in the order in which they are: its name, what does it, whether it is short."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from tests.faults.scenarios import nodes
from tests.faults.stage import Stage

ALL: Final[list[tuple[str, Callable[[Stage], Awaitable[None]], bool]]] = [
    ("node: kill -9", nodes.killed, True),
    ("node: SIGSTOP", nodes.stopped, False),
]

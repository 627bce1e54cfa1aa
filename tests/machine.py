"""Measures how slow this machine is now, so that tests can scale promises in seconds by it."""

from __future__ import annotations

import hashlib
import time
from typing import Final

#: The duration of one round of `_work` on a quiet machine of two cores.
_QUIET_SECONDS: Final = 0.07
_ROUNDS: Final = 5
_BLOCK: Final = bytes(1_000_000)


def _work() -> None:
    for _ in range(100):
        hashlib.blake2s(_BLOCK[:400_000]).digest()


def slowness() -> float:
    """The present duration of work on this machine, divided by that on a quiet one; at least 1."""
    began = time.perf_counter()
    for _ in range(_ROUNDS):
        _work()
    return max(1.0, (time.perf_counter() - began) / _ROUNDS / _QUIET_SECONDS)

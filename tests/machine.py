"""Measures how slow this machine is now, so that tests can scale promises in seconds by it."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from typing import Final

#: The duration of one round of `_work` on a quiet machine of two cores.
_QUIET_SECONDS: Final = 0.07
_ROUNDS: Final = 5
_BLOCK: Final = bytes(1_000_000)

#: CPython 3.11 needs this time for the work on the machine of `docs/faults.md` when nothing else runs there.
_IDLE_PROCESS_SECONDS: Final = 0.3
#: A promise that is multiplied by more would prove nothing.
_SLOWEST_PROCESS: Final = 3.0
_PROCESS_WORK: Final = """
import time
def work():
    number = 0
    for each in range(10_000_000):
        number += each
began = time.perf_counter()
work()
print(time.perf_counter() - began)
"""


def _work() -> None:
    for _ in range(100):
        hashlib.blake2s(_BLOCK[:400_000]).digest()


def slowness() -> float:
    """The present duration of work on this machine, divided by that on a quiet one; at least 1."""
    began = time.perf_counter()
    for _ in range(_ROUNDS):
        _work()
    return max(1.0, (time.perf_counter() - began) / _ROUNDS / _QUIET_SECONDS)


async def slowness_of_a_process() -> float:
    """The present duration of work in a process, divided by that on an idle machine, from 1 to 3.

    Another process does the work, because the event loop of this one is busy with its clients.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", _PROCESS_WORK, stdout=asyncio.subprocess.PIPE
    )
    seconds, _ = await process.communicate()
    return min(max(1.0, float(seconds) / _IDLE_PROCESS_SECONDS), _SLOWEST_PROCESS)

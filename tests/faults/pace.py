"""How slow this machine is at this moment, so that bounds in seconds measure the product and not the machine."""

from __future__ import annotations

import asyncio
import sys
from typing import Final

#: CPython 3.11 needs this time for the work on the machine of `docs/faults.md` when nothing else runs there.
_IDLE_SECONDS: Final = 0.3
#: A wider bound would prove nothing.
_SLOWEST: Final = 3.0
_WORK: Final = """
import time
def work():
    number = 0
    for each in range(10_000_000):
        number += each
began = time.perf_counter()
work()
print(time.perf_counter() - began)
"""


async def slowness() -> float:
    """The present duration of work in a process, divided by that on an idle machine, from 1 to 3.

    Another process does the work, because the event loop of this one is busy with its clients.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", _WORK, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return min(max(1.0, float(said) / _IDLE_SECONDS), _SLOWEST)

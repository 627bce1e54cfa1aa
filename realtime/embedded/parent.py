"""A process that ends with the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Ask the kernel for ``number`` when our parent dies; no effect where it knows no such thing."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number.value, 0, 0, 0)
    if os.getppid() != parent:  # it died meanwhile
        os.kill(os.getpid(), number)

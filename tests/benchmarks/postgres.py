"""The kernel's count of the CPU time that PostgreSQL uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the name in brackets: the parent, and user and system time of ended children.
_PARENT, _ENDED_USER, _ENDED_SYSTEM = 1, 13, 14


def cpu_seconds(postmaster: int, *, without: str) -> float:
    """CPU of a PostgreSQL server's processes until now, without connections to the database named ``without``.

    An ended process still counts, in units of 10 ms.
    """
    used = run_seconds(postmaster) + _ended_seconds(postmaster)
    for child in _children(postmaster):
        try:
            title = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace")
            if without not in title.split():
                used += run_seconds(child)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return used


def run_seconds(pid: int) -> float:
    """CPU seconds of a process; raises FileNotFoundError when the kernel does not count them."""
    # In nanoseconds; the other fields are about waiting.
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _ended_seconds(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[_ENDED_USER]) + int(fields[_ENDED_SYSTEM])) / _TICKS_PER_SECOND


def _children(pid: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int(_stat(int(entry.name))[_PARENT]) == pid:
                    yield int(entry.name)
            except (FileNotFoundError, ProcessLookupError):
                continue


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()

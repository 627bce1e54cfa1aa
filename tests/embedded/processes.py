"""The processes of this machine, read from /proc."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, NamedTuple

END_SECONDS: Final = 10.0


class Process(NamedTuple):
    """A process; the start time distinguishes it from a later one with the same number."""

    pid: int
    started_at: str

    @property
    def is_running(self) -> bool:
        fields = _fields(self.pid)
        return bool(fields) and fields[19] == self.started_at and fields[0] != "Z"

    @property
    def uid(self) -> int:
        return Path(f"/proc/{self.pid}").stat().st_uid


def family(pid: int) -> set[Process]:
    """All present descendants of ``pid``, without itself."""
    parents = {
        int(entry.name): _fields(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()
    }
    found: set[Process] = set()
    ancestors = [pid]
    while ancestors:
        parent = ancestors.pop()
        for child, fields in parents.items():
            if fields and int(fields[1]) == parent:
                found.add(Process(child, fields[19]))
                ancestors.append(child)
    return found


def wait_until_ended(processes: set[Process]) -> set[Process]:
    """Wait until ``processes`` have ended, with a bound; returns those that still run."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline and any(process.is_running for process in processes):
        time.sleep(0.01)
    return {process for process in processes if process.is_running}


def _fields(pid: int) -> list[str]:
    """The fields of `/proc/PID/stat` after the name, which begin with state and parent; [] without such a process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []

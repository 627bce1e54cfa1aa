"""The folder for the servers' files and ports: owned by one process, and kept or thrown away."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from realtime.embedded.account import ServerAccount
from realtime.errors import FolderInUse, FolderUnusable

LOCK_NAME: Final = "lock"
THROWAWAY_PREFIX: Final = "guardwire-throwaway-"
MEMORY: Final = "/dev/shm"  # noqa: S108  # mkdtemp makes a private folder in it
MEMORY_ROOM_BYTES: Final = 4 * 1024**3
#: How long the servers of a killed owner may take to end.
WINDING_DOWN_SECONDS: Final = 10.0


@dataclass
class OwnedFolder:
    """A folder and its lock. The servers inherit the lock, so it is free when the last of them has ended."""

    path: Path
    lock_fd: int
    throwaway: bool = False

    @classmethod
    def claim(cls, path: Path, account: ServerAccount) -> OwnedFolder:
        """Make ``path`` if it is missing, and become its owner; raises FolderUnusable or FolderInUse."""
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if account.is_other:  # the account must pass through the folder, and need not list it
                path.chmod(path.stat().st_mode | stat.S_IXOTH)
            fd = _open_lock(path)
        except OSError as error:
            raise FolderUnusable(
                f"The data folder {path} cannot be written ({error.strerror}): choose another one with "
                f"GUARDWIRE_DATA=/path/to/folder, or make it yours: sudo chown -R $(id -un) '{path}'."
            ) from error
        return cls(path, _own(fd, path))

    @classmethod
    def make_throwaway(cls, account: ServerAccount) -> OwnedFolder:
        """A new folder that ``account`` can enter, removed on release.

        Folders whose owners were killed are removed first.
        """
        for place in _temporary_places(account):
            _remove_abandoned(place)
            path = Path(tempfile.mkdtemp(prefix=THROWAWAY_PREFIX, dir=place))
            if account.is_other:
                path.chmod(0o711)
            return cls(path, _own(_open_lock(path), path), throwaway=True)
        raise FolderUnusable(
            f"No temporary folder can be written here and entered by the account {account.name}: "
            "name one with TMPDIR=/path/to/folder."
        )

    def release(self) -> None:
        """Give the folder up, and remove a throw-away one. Further calls do nothing."""
        if self.lock_fd == -1:
            return
        if self.throwaway:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            (self.path / LOCK_NAME).unlink(missing_ok=True)
        os.close(self.lock_fd)
        self.lock_fd = -1


def _open_lock(folder: Path) -> int:
    return os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _own(fd: int, folder: Path) -> int:
    """The descriptor of ``folder``'s lock, which we then hold; raises FolderInUse while its owner lives."""
    deadline = time.monotonic() + WINDING_DOWN_SECONDS
    while not _try_lock(fd):
        owner = _owner(fd)
        if (owner is not None and _lives(owner)) or time.monotonic() > deadline:
            os.close(fd)
            by = f" by process {owner}" if owner else ""
            remedy = f"kill {owner}" if owner else f"fuser -k '{folder / LOCK_NAME}'"
            raise FolderInUse(
                owner,
                f"The data folder {folder} is in use{by}: end that process first ({remedy}), or choose another folder "
                "with GUARDWIRE_DATA=/path/to/folder.",
            )
        time.sleep(0.02)  # the servers of a killed owner are still ending
    current = (folder / LOCK_NAME).stat() if (folder / LOCK_NAME).exists() else None
    if current is None or current.st_ino != os.fstat(fd).st_ino:
        os.close(fd)  # the previous owner has removed this file, so the lock that we got is worthless
        return _own(_open_lock(folder), folder)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _temporary_places(account: ServerAccount) -> Iterator[Path]:
    chosen, usual = tempfile.gettempdir(), "/tmp"  # noqa: S108  # mkdtemp makes a private folder in it
    preferred = (chosen,) if chosen != usual else _memory()  # a TMPDIR that is set comes first
    for place in dict.fromkeys((*preferred, usual, "/var/tmp")):  # noqa: S108
        if os.access(place, os.W_OK | os.X_OK) and account.can_run(Path(place)):
            yield Path(place)


def _memory() -> tuple[str, ...]:
    """The file system in memory, if it has enough room: databases are cloned ten times as fast there."""
    try:
        room = os.statvfs(MEMORY)
    except OSError:
        return ()
    return (MEMORY,) if room.f_bavail * room.f_frsize >= MEMORY_ROOM_BYTES else ()


def _remove_abandoned(place: Path) -> None:
    """Remove our throw-away folders in ``place`` whose owner was killed."""
    for folder in place.glob(THROWAWAY_PREFIX + "*"):
        try:
            entry = folder.lstat()
            if not stat.S_ISDIR(entry.st_mode) or entry.st_uid != os.geteuid():
                continue
            fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # the folder is gone meanwhile, or so new that it has no lock yet
            continue
        if _try_lock(fd) and _owner(fd) is not None:
            shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:``port`` now."""
    with socket.socket() as probe:
        # The servers set this option too, so connections in TIME_WAIT on the port are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port that was free a moment ago; another program may take it before the caller does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def remembered_port(file: Path) -> int:
    """The port in ``file`` if it is free, else a new one, so that a kept server keeps its address."""
    with suppress(OSError, ValueError):
        port = int(file.read_text())
        if is_free(port):
            return port
    port = free_port()
    file.write_text(f"{port}\n")
    return port

"""Becomes a server program that dies with the process that started it. Run by path, never imported:

    python -I -S launcher.py PARENT UID GID DEATH_SIGNAL WATCH_FD PROGRAM ARGUMENT…

The launcher is a process of its own, because a forked copy of a threaded Python must not change its user and call
prctl before exec. The order matters: the kernel forgets the death signal when the credentials change. UID is -1 for
the present user. On macOS, which has no death signal, the launcher stays, watches the pipe whose other end the parent
holds, and forwards signals. The way of macOS has been tested on Linux only.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from types import FrameType

PR_SET_PDEATHSIG = 1
FORWARDED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)


def main(arguments: list[str]) -> None:
    parent, uid, gid, death_signal, watch_fd = map(int, arguments[:5])
    command = arguments[5:]
    # The new user may be unable to read the interpreter's folder, so the library is loaded before.
    prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None
    if uid != -1:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    if prctl is not None:
        if prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != parent:  # the parent died before prctl, so no signal will come
            sys.exit(1)
        os.execv(command[0], command)  # noqa: S606  # no shell is wanted
    watch(os.posix_spawn(command[0], command, os.environ), watch_fd, death_signal)


def watch(server: int, watch_fd: int, death_signal: int) -> None:
    """Forward signals to ``server``, and end it when the pipe closes, because then the parent is gone."""

    def forward(number: int, _: FrameType | None) -> None:
        os.kill(server, number)

    for number in FORWARDED_SIGNALS:
        signal.signal(number, forward)
    while True:
        readable, _, _ = select.select([watch_fd], [], [], 0.2)
        if readable:
            os.kill(server, death_signal)
            watch_fd = os.pipe()[0]  # never readable, so the loop now waits for the end of the server alone
        ended, status = os.waitpid(server, os.WNOHANG)
        if ended:
            sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"{sys.argv[6]}: {error}")

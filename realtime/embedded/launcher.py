"""Becomes a server program that dies with the process that wanted it. Run by path, never imported:

    python -I -S launcher.py PARENT UID GID DEATH_SIGNAL WATCH_FD PROGRAM ARGUMENT…

A process of its own, because what has to happen between fork and exec (change of user, then prctl: the kernel
forgets the death signal when credentials change) is not safe in a forked copy of a threaded Python.
UID is -1 to stay who we are. Where the kernel has no death signal (macOS) the launcher stays, watches the
pipe whose other end the parent holds, and passes signals on; that way has been tried on Linux only.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from types import FrameType

PR_SET_PDEATHSIG = 1
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)


def main(arguments: list[str]) -> None:
    parent, uid, gid, death_signal, watch_fd = map(int, arguments[:5])
    command = arguments[5:]
    # Loaded while we may still read the interpreter's own folder.
    prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None
    if uid != -1:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    if prctl is not None:
        if prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != parent:  # it died before prctl, so no signal will come
            sys.exit(1)
        os.execv(command[0], command)  # noqa: S606  # no shell is wanted
    watch(os.posix_spawn(command[0], command, os.environ), watch_fd, death_signal)


def watch(server: int, watch_fd: int, death_signal: int) -> None:
    """Pass signals on to ``server``; when the pipe closes, the parent is gone and so must the server be."""

    def pass_on(number: int, _: FrameType | None) -> None:
        os.kill(server, number)

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    while True:
        readable, _, _ = select.select([watch_fd], [], [], 0.2)
        if readable:
            os.kill(server, death_signal)
            watch_fd = os.pipe()[0]  # never readable: from now on only the server's end is waited for
        ended, status = os.waitpid(server, os.WNOHANG)
        if ended:
            sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"{sys.argv[6]}: {error}")

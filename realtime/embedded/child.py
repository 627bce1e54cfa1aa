"""Child processes that end when their parent dies, also when the parent is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from realtime.embedded.account import ServerAccount

LAUNCHER: Final = Path(__file__).with_name("launcher.py")
#: Without our own PG* and LD_* variables, and with a locale that every machine has.
ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C", "TZ": "UTC"}

SIGNS_OF_TROUBLE: Final = ("FATAL", "PANIC", "rror", "ould not", "in use")

_PR_SET_PDEATHSIG: Final = 1


@dataclass
class Child:
    """A running server program and the file that it writes its log to."""

    process: subprocess.Popen[bytes]
    log: Path
    watch_fd: int

    @classmethod
    def spawn(
        cls,
        command: list[str],
        *,
        account: ServerAccount,
        log: Path,
        held_fd: int,
        death_signal: signal.Signals,
        stdin: str = "",
    ) -> Child:
        """Start ``command`` as ``account``. It holds ``held_fd`` open, and gets ``death_signal`` when we die.

        Works in the main thread only, because the kernel sends the signal when the thread that forked ends.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("servers end with the thread that started them: start them from the main one")
        watched_fd, watch_fd = os.pipe()
        who = (str(account.uid), str(account.gid)) if account.is_other else ("-1", "-1")
        launch = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *who, str(death_signal.value)]
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [*launch, str(watched_fd), *command],
                    stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, cwd="/", env=ENVIRONMENT,
                    pass_fds=(watched_fd, held_fd),
                    # Ctrl-C signals the whole foreground process group, and the servers must end after us.
                    start_new_session=True,
                )  # fmt: skip
        finally:
            os.close(watched_fd)
        assert process.stdin is not None
        with (
            suppress(BrokenPipeError),
            process.stdin,
        ):  # a program that ended at once wrote the reason to its log
            process.stdin.write(stdin.encode())
        return cls(process, log, watch_fd)

    @property
    def pid(self) -> int:
        """The process id of the server (on macOS, that of its launcher)."""
        return self.process.pid

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self, patience_seconds: float) -> bool:
        """Whether the program ended with exit code 0 within ``patience_seconds``."""
        try:
            return self.process.wait(patience_seconds) == 0
        except subprocess.TimeoutExpired:
            return False

    def end(self, *signals: tuple[signal.Signals, float]) -> None:
        """Send one signal after the other until the program has ended, each with its time to wait; last SIGKILL."""
        for number, patience_seconds in (*signals, (signal.SIGKILL, 10.0)):
            if self.has_ended:
                break
            self.process.send_signal(number)
            self.wait(patience_seconds)
        if self.watch_fd != -1:
            os.close(self.watch_fd)
            self.watch_fd = -1

    def last_words(self) -> str:
        """The last line of the log with a sign of trouble; without one, the last line."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        wrong = [line for line in lines if any(word in line for word in SIGNS_OF_TROUBLE)]
        return (wrong or lines or ["its log is empty"])[-1]


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Ask the kernel to send us ``number`` when our parent dies; has no effect outside Linux."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number.value, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before prctl
        os.kill(os.getpid(), number)

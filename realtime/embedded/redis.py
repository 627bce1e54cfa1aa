"""A Redis or Valkey server, started and ended by this process. It keeps no data across starts."""

from __future__ import annotations

import secrets
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from realtime.embedded.account import ServerAccount
from realtime.embedded.child import Child
from realtime.embedded.folder import OwnedFolder, free_port, remembered_port
from realtime.errors import ServerNotReady

READY_SECONDS: Final = 10.0
START_ATTEMPTS: Final = 5

#: The server reads this from its standard input, so the password is in no file and in no list of processes.
CONFIGURATION: Final = """\
bind 127.0.0.1
port {port}
requirepass {password}
databases 64
save ""
appendonly no
daemonize no
dir /
"""


class Redis:
    """One Redis or Valkey server; ``start`` and ``end`` may be called again, on the same port."""

    def __init__(self, program: Path, *, account: ServerAccount, owned: OwnedFolder) -> None:
        self._program = program
        self._account = account
        self._owned = owned
        self._password = secrets.token_hex(16)
        self._child: Child | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """URL of logical database 0, with its password."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """Process id of the server; None when it does not run."""
        return self._child.pid if self._child and not self._child.has_ended else None

    def begin(self) -> None:
        """Start without waiting; `wait_until_ready` waits."""
        if self.port == 0:
            remembered = self._owned.path / "redis.port"
            self.port = free_port() if self._owned.throwaway else remembered_port(remembered)
        self._child = Child.spawn(
            [str(self._program), "-"],
            account=self._account,
            log=self._owned.path / "redis.log",
            held_fd=self._owned.lock_fd,
            death_signal=signal.SIGTERM,
            stdin=CONFIGURATION.format(port=self.port, password=self._password),
        )

    def wait_until_ready(self) -> None:
        """Return when the server accepts our password; raises ServerNotReady."""
        for attempt in range(START_ATTEMPTS):
            assert self._child is not None
            if self._is_ready():
                return
            words = self._child.last_words()
            self.end()
            if "in use" not in words or attempt == START_ATTEMPTS - 1:
                raise ServerNotReady(f"Redis did not start, see {self._child.log}: {words}")
            self.port = 0  # another program took the port in between
            (self._owned.path / "redis.port").unlink(missing_ok=True)
            self.begin()

    def start(self) -> None:
        """Start, and return when the server answers."""
        if self.pid is None:
            self.begin()
            self.wait_until_ready()

    def end(self) -> None:
        """End the server and wait until it has ended."""
        if self._child is not None:
            self._child.end((signal.SIGTERM, 3.0))

    def _is_ready(self) -> bool:
        assert self._child is not None
        deadline = time.monotonic() + READY_SECONDS
        while not self._child.has_ended and time.monotonic() < deadline:
            # Only our server knows the password, so a +OK cannot come from another listener on the port.
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.sendall(f"AUTH {self._password}\r\n".encode())
                if connection.recv(64).startswith(b"+OK"):
                    return True
            time.sleep(0.005)
        return False

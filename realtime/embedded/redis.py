"""A Redis or Valkey server, started and ended by this process. It keeps no data across starts."""

from __future__ import annotations

import secrets
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

from realtime.embedded.account import ServerAccount
from realtime.embedded.child import Child
from realtime.embedded.folder import OwnedFolder
from realtime.embedded.server import EmbeddedServer

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


class Redis(EmbeddedServer):
    """One Redis or Valkey server."""

    name: ClassVar[str] = "Redis"
    ready_seconds: ClassVar[float] = 10.0
    port_is_taken: ClassVar[str] = "in use"

    def __init__(self, program: Path, *, account: ServerAccount, owned: OwnedFolder) -> None:
        super().__init__(owned)
        self._program = program
        self._account = account
        self._password = secrets.token_hex(16)

    @property
    def url(self) -> str:
        """URL of logical database 0, with its password."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def end(self) -> None:
        """End the server and wait until it has ended."""
        if self._child is not None:
            self._child.end((signal.SIGTERM, 3.0))

    def _spawn_server(self) -> Child:
        return Child.spawn(
            [str(self._program), "-"],
            account=self._account,
            log=self._log,
            held_fd=self._owned.lock_fd,
            death_signal=signal.SIGTERM,
            stdin=CONFIGURATION.format(port=self.port, password=self._password),
        )

    def _is_ready(self) -> bool:
        """Whether the server accepts our password: only our server knows it, so another listener cannot."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
            connection.sendall(f"AUTH {self._password}\r\n".encode())
            return connection.recv(64).startswith(b"+OK")
        return False

"""A server that is started and ended by this process, on a port that may be taken in the meantime."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import ClassVar, Final

from realtime.embedded.child import Child
from realtime.embedded.folder import OwnedFolder, free_port, remembered_port
from realtime.errors import ServerNotReady

START_ATTEMPTS: Final = 5
_LOOK_SECONDS: Final = 0.005


class EmbeddedServer(ABC):
    """One server; it may be started and ended again, on the same data and port."""

    #: As messages call it; in lower case it is the name of its files.
    name: ClassVar[str]
    ready_seconds: ClassVar[float]
    #: Words of its log when it cannot listen on its port.
    port_is_taken: ClassVar[str]

    def __init__(self, owned: OwnedFolder) -> None:
        self._owned = owned
        self._log = owned.path / f"{self.name.lower()}.log"
        self._port_file = owned.path / f"{self.name.lower()}.port"
        self._child: Child | None = None
        self.port = 0

    @property
    def pid(self) -> int | None:
        """Process id of the server; None when it does not run."""
        return self._child.pid if self._child and not self._child.has_ended else None

    def begin(self) -> None:
        """Start without waiting; `wait_until_ready` waits."""
        if self.port == 0:
            self.port = free_port() if self._owned.throwaway else remembered_port(self._port_file)
        self._child = self._spawn_server()

    def wait_until_ready(self) -> None:
        """Return when the server can be used; raises ServerNotReady.

        Another program may take the port before the server does. Then the server gets another one.
        """
        for attempts_left in reversed(range(START_ATTEMPTS)):
            assert self._child is not None
            if self._becomes_ready(self._child):
                return
            words = self._child.last_words()
            self.end()
            if self.port_is_taken not in words or not attempts_left:
                raise ServerNotReady(f"{self.name} did not start, see {self._log}: {words}")
            self.port = 0
            self._port_file.unlink(missing_ok=True)
            self.begin()

    def start(self) -> None:
        """Start, and return when the server can be used."""
        if self.pid is None:
            self.begin()
            self.wait_until_ready()

    @abstractmethod
    def end(self) -> None:
        """End the server and wait until it has ended."""

    @abstractmethod
    def _spawn_server(self) -> Child:
        """Start the server's process on `port`."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether the server can be used now."""

    def _becomes_ready(self, child: Child) -> bool:
        deadline = time.monotonic() + self.ready_seconds
        while not child.has_ended and time.monotonic() < deadline:
            if self._is_ready():
                return True
            time.sleep(_LOOK_SECONDS)
        return False

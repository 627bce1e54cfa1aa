"""Ports on the loopback interface."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:``port`` now."""
    with socket.socket() as probe:
        # As the servers do: a port whose last connections still linger is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port that was free a moment ago; whoever uses it must be ready to find it taken."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def remembered_port(file: Path) -> int:
    """The port that ``file`` remembers if it is free, else another: a kept server keeps its address."""
    with suppress(OSError, ValueError):
        port = int(file.read_text())
        if is_free(port):
            return port
    port = free_port()
    file.write_text(f"{port}\n")
    return port

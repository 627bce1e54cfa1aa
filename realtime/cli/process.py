"""The process that a command runs in: its port, its open files, its garbage collector, its progress messages."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import socket
import sys
from typing import Final

from realtime.errors import ConfigurationError, PortTaken

#: Python's default is 700 new objects. When thousands of clients connect at once, the collector would then traverse
#: every object in the process again and again, which was a third of the cost of each connection.
_NEW_OBJECTS_PER_COLLECTION: Final = 50_000
_COLLECTIONS_PER_GENERATION: Final = 20


def report_progress(sentence: str) -> None:
    """Print ``sentence`` on standard error, apart from the command's result on standard output."""
    print(f"guardwire: {sentence}", file=sys.stderr, flush=True)


def check_port(host: str, port: int, *, command: str = "") -> None:
    """Raise PortTaken or ConfigurationError when this process cannot listen on ``host``:``port``.

    ``command`` follows the setting in the sentence that proposes another port.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise ConfigurationError(
            [f"GUARDWIRE_HOST={host} is no address of this machine: {error.strerror}."]
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(port, _port_taken(host, port, command)) from error
        reason = os.strerror(error.errno or 0)
        raise ConfigurationError(
            [f"{host}:{port} cannot be listened on: {reason}. Set GUARDWIRE_PORT."]
        ) from error


def _port_taken(host: str, port: int, command: str) -> str:
    another = f"GUARDWIRE_PORT={port + 1 if port < 65535 else 8001}"
    return (
        f"Port {port} of {host} is taken by another program: choose another one, {another}{command}, "
        f"or end that program (lsof -i :{port} names it)."
    )


def allow_many_connections() -> None:
    """Raise this process's limit of open files to the most that the system grants.

    Each connection is an open file. A plain shell grants 1,024, which the connections of one stranger would fill.
    """
    granted, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # some systems grant less than their stated maximum
        if granted != most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def collect_garbage_seldom() -> None:
    """Tune the garbage collector for a server of many long connections; call it when everything is imported.

    The objects that exist by then belong to the program itself. `gc.freeze` leaves them out of every collection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS_PER_COLLECTION, _COLLECTIONS_PER_GENERATION, _COLLECTIONS_PER_GENERATION)

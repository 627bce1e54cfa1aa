"""What listening needs of the machine, seen to before anything else is started: a port, and open files."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket

from realtime.errors import ConfigurationError, PortTaken


def check_port(host: str, port: int, *, mend: str = "") -> None:
    """Raise PortTaken or ConfigurationError, with the mend, when ``host``:``port`` cannot be listened on."""
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
            another = f"GUARDWIRE_PORT={port + 1 if port < 65535 else 8001}"
            raise PortTaken(
                port,
                f"Port {port} of {host} is taken by another program: choose another one, {another}{mend}, "
                f"or end that program (lsof -i :{port} names it).",
            ) from error
        reason = os.strerror(error.errno or 0)
        raise ConfigurationError(
            [f"{host}:{port} cannot be listened on: {reason}. Set GUARDWIRE_PORT."]
        ) from error


def allow_many_connections() -> None:
    """Raise this process's limit of open files to the most that the system grants it.

    Each connection is an open file, and a plain shell grants 1,024, which the connections of one stranger
    would fill.
    """
    granted, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # some systems grant less than they name
        if granted != most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

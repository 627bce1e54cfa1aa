"""A real nginx with the configuration of `deploy/`, in front of the nodes of a test."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from realtime.embedded.folder import free_port
from tests.waiting import wait_until

_CONFIGURATION: Final = Path(__file__).parents[2] / "deploy/nginx.conf"
_FOLDERS: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True)
class Proxy:
    """A running proxy and its log."""

    url: str
    log: Path


def program() -> str:
    """The program; skips the test without one."""
    found = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if found is None:
        pytest.skip("no nginx on this machine (apt install nginx)")
    return found


@contextlib.contextmanager
def proxy(folder: Path, *nodes: str, listen: str = "    listen 8080;\n") -> Iterator[Proxy]:
    """Proxy to ``nodes`` (two of them, host:port) while the context lasts.

    ``listen`` replaces the line that listens; the port 8080 or 8443 in it becomes a free one.
    """
    port, log = free_port(), folder / "nginx.log"
    text = _CONFIGURATION.read_text("utf-8")
    # Settings that the installation of a machine decides, and names that exist in the composition alone.
    folders = "".join(f"    {each}_temp_path {folder}/{each};\n" for each in _FOLDERS)
    replaced = {
        "    listen 8080;\n": re.sub(r"listen (8080|8443)", f"listen 127.0.0.1:{port}", listen),
        "guardwire-1:8000": nodes[0],
        "guardwire-2:8000": nodes[1],
        "/tmp/nginx.pid": f"{folder}/nginx.pid",
        "worker_processes auto;": "worker_processes 1;",
        "worker_rlimit_nofile 65536;": "",
        "worker_connections 16384;": "worker_connections 512;",
        "http {\n": "http {\n" + folders,
    }
    for old, new in replaced.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    configuration = folder / "nginx.conf"
    configuration.write_text(text, "utf-8")
    command = [program(), "-p", str(folder), "-e", "stderr", "-c", str(configuration), "-g", "daemon off;"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)

    def listens() -> bool:
        assert process.poll() is None, log.read_text("utf-8")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens)
        yield Proxy(f"http://127.0.0.1:{port}", log)
    finally:
        process.terminate()
        process.wait()

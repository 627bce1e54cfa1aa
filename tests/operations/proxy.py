"""Real proxies with the configurations of `deploy/`, in front of nodes of a test."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pytest

from realtime.embedded.folder import free_port
from tests.waiting import wait_until

_DEPLOY: Final = Path(__file__).parents[2] / "deploy"
_PATH: Final = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
#: The configuration of each program.
CONFIGURATIONS: Final = {
    "nginx": _DEPLOY / "nginx.conf",
    "haproxy": _DEPLOY / "haproxy.cfg",
    "caddy": _DEPLOY / "Caddyfile",
}
_FOLDERS: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True)
class Proxy:
    """A running proxy and its log."""

    url: str
    log: Path


def program(name: str) -> str:
    """The program; skips the test where there is none."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"no {name} on this machine (apt install {name})")
    return found


@contextlib.contextmanager
def proxy(
    folder: Path,
    *nodes: str,
    listen: str = "    listen 8080;\n",
    kind: str = "nginx",
    seconds: Mapping[int, int] = MappingProxyType({}),
) -> Iterator[Proxy]:
    """Proxy to ``nodes`` (two of them, host:port) with the program ``kind`` while the context lasts.

    ``listen`` is put in place of nginx's line that listens; the port 8080 or 8443 in it becomes a free one. ``seconds``
    are time limits of the configuration, each with another one in its place.
    """
    port, log = free_port(), folder / f"{kind}.log"
    configuration = folder / CONFIGURATIONS[kind].name
    replaced = {
        "nginx": lambda: _in_nginx(folder, port, listen),
        "haproxy": lambda: _in_haproxy(port),
        "caddy": lambda: _in_caddy(port),
    }[kind]()
    replaced |= _addresses(kind, nodes)
    text = _replace(CONFIGURATIONS[kind].read_text("utf-8"), replaced)
    for usual, other in seconds.items():
        text = re.sub(rf"\b{usual}s\b", f"{other}s", text)
    configuration.write_text(text, "utf-8")
    command = {
        "nginx": ["-p", str(folder), "-e", "stderr", "-c", str(configuration), "-g", "daemon off;"],
        "haproxy": ["-db", "-f", str(configuration)],
        "caddy": ["run", "--adapter", "caddyfile", "--config", str(configuration)],
    }[kind]
    with log.open("wb") as output:
        # Caddy keeps what it remembers in its home.
        process = subprocess.Popen(
            [program(kind), *command], stdout=output, stderr=output, env={**os.environ, "HOME": str(folder)}
        )

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


def _replace(text: str, replaced: Mapping[str, str]) -> str:
    for old, new in replaced.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def _addresses(kind: str, nodes: tuple[str, ...]) -> dict[str, str]:
    """The names that only the composition knows, and the addresses in place of them."""
    named = {"nginx": "server {}:8000", "haproxy": "server {0} {0}:8000", "caddy": " {}:8000"}[kind]
    given = {"nginx": "server {1}", "haproxy": "server {0} {1}", "caddy": " {1}"}[kind]
    names = ("guardwire-1", "guardwire-2")
    return {named.format(name): given.format(name, node) for name, node in zip(names, nodes, strict=True)}


def _in_nginx(folder: Path, port: int, listen: str) -> dict[str, str]:
    """Folders and limits that depend on the machine."""
    folders = "".join(f"    {each}_temp_path {folder}/{each};\n" for each in _FOLDERS)
    return {
        "    listen 8080;\n": re.sub(r"listen (8080|8443)", f"listen 127.0.0.1:{port}", listen),
        "/tmp/nginx.pid": f"{folder}/nginx.pid",
        "worker_processes auto;": "worker_processes 1;",
        "worker_rlimit_nofile 65536;": "",
        "worker_connections 16384;": "worker_connections 2048;",
        "http {\n": "http {\n" + folders,
    }


def _in_haproxy(port: int) -> dict[str, str]:
    return {"    bind :8080\n": f"    bind 127.0.0.1:{port}\n", "maxconn 16384": "maxconn 2048"}


def _in_caddy(port: int) -> dict[str, str]:
    return {"\n:8080 {\n": f"\nhttp://127.0.0.1:{port} {{\n\tbind 127.0.0.1\n"}

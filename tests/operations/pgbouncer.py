"""A real pgbouncer in transaction mode, in front of the database of a test."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from realtime.embedded.account import server_account
from realtime.embedded.folder import free_port
from tests.waiting import wait_until

#: Fewer than the concurrent statements, so that statements of one client reach many servers.
SERVERS = 3


@dataclass(frozen=True)
class Pooler:
    """A running pgbouncer, and the URL of the database through it."""

    url: str
    process: subprocess.Popen[bytes]


#: The settings that OPERATIONS.md puts on the role; here on the database, because all tests share the role.
FOR_SESSIONS = {"jit": "off", "plan_cache_mode": "force_generic_plan", "statement_timeout": "'10s'"}


async def set_for_sessions(database_url: str) -> None:
    """Set for all sessions the settings that a node cannot set through a pooler."""
    connection = await asyncpg.connect(database_url)
    name = await connection.fetchval("SELECT current_database()")
    for setting, value in FOR_SESSIONS.items():
        await connection.execute(f'ALTER DATABASE "{name}" SET {setting} = {value}')
    await connection.close()


def program() -> str:
    """The program; skips the test without one."""
    found = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if found is None:
        pytest.skip("no pgbouncer on this machine (apt install pgbouncer)")
    return found


@contextlib.contextmanager
def pgbouncer(
    database_url: str, folder: Path, *, search_path: str = "pg_catalog", ignored: str = ""
) -> Iterator[Pooler]:
    """``database_url`` through a pgbouncer that runs while the context lasts.

    ``search_path`` is that of its connections to the server, as OPERATIONS.md says to set it for the role; all tests
    share the role. ``ignored`` are settings of clients that it takes and forgets; it refuses others.
    """
    behind, port, account = urlsplit(database_url), free_port(), server_account()
    name = behind.path.removeprefix("/")
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        "[databases]\n"
        f"{name} = host={behind.hostname} port={behind.port} user={behind.username}"
        f" password={behind.password} connect_query='SET search_path = {search_path}'\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"ignore_startup_parameters = {ignored}\n"
        f"pool_mode = transaction\ndefault_pool_size = {SERVERS}\nmax_client_conn = 100\n"
    )
    account.give(settings)
    who = {"user": account.uid, "group": account.gid, "extra_groups": []} if account.is_other else {}
    process = subprocess.Popen(
        [program(), str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **who
    )  # type: ignore[call-overload]

    def listens() -> bool:
        assert process.poll() is None, "pgbouncer ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens)
        yield Pooler(urlunsplit(behind._replace(netloc=f"guardwire@127.0.0.1:{port}")), process)
    finally:
        process.kill()
        process.wait()

"""PostgreSQL in a data folder, started and ended by us."""

from __future__ import annotations

import secrets
import shutil
import signal
import time
from pathlib import Path
from typing import Final

from realtime.embedded.account import ServerAccount
from realtime.embedded.child import Child
from realtime.embedded.folder import OwnedFolder
from realtime.embedded.ports import free_port, remembered_port
from realtime.embedded.programs import PostgresPrograms
from realtime.errors import FolderUnusable, ServerNotReady

USER: Final = "guardwire"
DATABASE: Final = "guardwire"
#: A kept cluster may have to replay its log first.
READY_SECONDS: Final = 60.0
START_ATTEMPTS: Final = 5

SETTINGS: Final = {
    # No socket file: nothing to guard against other accounts, and no path that can be too long for one.
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "synchronous_commit": "off",
    # In files of its own folder: what a killed server leaves in /dev/shm nobody would remove.
    "dynamic_shared_memory_type": "mmap",
}
#: What nobody will miss may be lost.
THROWAWAY_SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
}


class Postgres:
    """One PostgreSQL server; ``start`` and ``end`` may be called again, on the same data and port."""

    def __init__(
        self,
        programs: PostgresPrograms,
        *,
        account: ServerAccount,
        owned: OwnedFolder,
        beside: Path | None = None,
    ) -> None:
        """Data in ``owned``, or in ``beside`` when the account cannot reach that; nothing is started yet."""
        self._programs = programs
        self._account = account
        self._owned = owned
        self.cluster = (beside or owned.path) / f"postgresql-{programs.major}"
        self._password_file = owned.path / f"postgresql-{programs.major}.password"
        self._log = owned.path / "postgresql.log"
        self._child: Child | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """URL of the database, as psql and every driver take it, with its password."""
        return (
            f"postgresql://{USER}:{self._password_file.read_text().strip()}@127.0.0.1:{self.port}/{DATABASE}"
        )

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster; None when it does not run."""
        return self._child.pid if self._child and not self._child.has_ended else None

    def start(self) -> None:
        """Make the cluster if there is none, start, and return when it takes connections."""
        if self.pid is not None:
            return
        if not self.cluster.exists():
            self._make_cluster()
        if not self._password_file.exists():
            raise FolderUnusable(
                f"{self.cluster} is there, but its password in {self._password_file.name} is not: "
                f"start from an empty folder: rm -r '{self.cluster}'."
            )
        # We own the folder and its servers inherited the lock, so whatever wrote this file has ended.
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        for attempt in range(START_ATTEMPTS):
            if self.port == 0:
                self.port = (
                    free_port()
                    if self._owned.throwaway
                    else remembered_port(self._owned.path / "postgresql.port")
                )
            self._child = self._spawn(self._programs.postgres, *self._arguments(), log=self._log)
            if self._is_ready():
                return
            words = self._child.last_words()
            self.end()
            if "create any TCP/IP sockets" not in words or attempt == START_ATTEMPTS - 1:
                raise ServerNotReady(f"PostgreSQL did not start, see {self._log}: {words}")
            self.port = 0  # somebody took it in between
            (self._owned.path / "postgresql.port").unlink(missing_ok=True)

    def end(self) -> None:
        """End the server and wait for its end; in good order, unless its data is thrown away anyhow."""
        if self._child is not None:
            if self._owned.throwaway:
                self._child.end((signal.SIGQUIT, 5.0))
            else:
                self._child.end((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))

    def _arguments(self) -> list[str]:
        settings = SETTINGS | (THROWAWAY_SETTINGS if self._owned.throwaway else {}) | {"port": str(self.port)}
        return ["-D", str(self.cluster), *(f"--{name}={value}" for name, value in settings.items())]

    def _is_ready(self) -> bool:
        """Wait for the postmaster's word in its own lock file, which costs no connection."""
        assert self._child is not None
        word = self.cluster / "postmaster.pid"
        deadline = time.monotonic() + READY_SECONDS
        while not self._child.has_ended and time.monotonic() < deadline:
            lines = word.read_text().splitlines() if word.exists() else []
            if len(lines) >= 8 and lines[7].strip() == "ready":
                return True
            time.sleep(0.005)
        return False

    def _make_cluster(self) -> None:
        """Make a cluster, under another name first: an interrupted start leaves none that looks whole."""
        unfinished = self.cluster.with_name(self.cluster.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        self._account.give(unfinished)
        password = secrets.token_hex(16)
        for_initdb = self.cluster.with_name(f"{self.cluster.name}.initdb-password")
        for file in (self._password_file, for_initdb):
            file.touch(0o600)
            file.write_text(password + "\n")
        self._account.give(for_initdb)
        self._run(
            self._programs.initdb,
            *("--pgdata", str(unfinished), "--username", USER, "--pwfile", str(for_initdb)),
            *("--auth-local=reject", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C"),
            *("--no-sync", "--no-instructions"),
        )
        for_initdb.unlink()
        # Renamed and not created, which would copy a database: several times as long.
        rename = f"ALTER DATABASE postgres RENAME TO {DATABASE}\n"
        self._run(self._programs.postgres, "--single", "-F", "-D", str(unfinished), "template1", stdin=rename)
        unfinished.rename(self.cluster)

    def _run(self, program: Path, *arguments: str, stdin: str = "") -> None:
        """Run a program that prepares the cluster, to its end."""
        child = self._spawn(program, *arguments, log=self._owned.path / "initdb.log", stdin=stdin)
        done = child.wait(READY_SECONDS)
        child.end()
        if not done:
            raise ServerNotReady(f"{program.name} failed, see {child.log}: {child.last_words()}")

    def _spawn(self, program: Path, *arguments: str, log: Path, stdin: str = "") -> Child:
        return Child.spawn(
            [str(program), *arguments],
            account=self._account,
            log=log,
            held_fd=self._owned.lock_fd,
            death_signal=signal.SIGQUIT if self._owned.throwaway else signal.SIGINT,
            stdin=stdin,
        )

"""A PostgreSQL server in a data folder, started and ended by this process."""

from __future__ import annotations

import secrets
import shutil
import signal
from pathlib import Path
from typing import ClassVar, Final

from realtime.embedded.account import ServerAccount
from realtime.embedded.child import Child
from realtime.embedded.folder import OwnedFolder
from realtime.embedded.programs import PostgresPrograms
from realtime.embedded.server import EmbeddedServer
from realtime.errors import FolderUnusable, ServerNotReady

USER: Final = "guardwire"
DATABASE: Final = "guardwire"
#: The last line of the postmaster's lock file is its state.
_LOCK_FILE_LINES: Final = 8

SETTINGS: Final = {
    # No socket file: other accounts cannot reach it, and no path can be too long for one.
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "synchronous_commit": "off",
    # In files of its own folder, because nobody would remove the segments of a killed server from /dev/shm.
    "dynamic_shared_memory_type": "mmap",
}
#: The data of a throw-away cluster need not survive a crash.
THROWAWAY_SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
}


class Postgres(EmbeddedServer):
    """One PostgreSQL server."""

    name: ClassVar[str] = "PostgreSQL"
    #: A kept cluster may have to replay its WAL first.
    ready_seconds: ClassVar[float] = 60.0
    port_is_taken: ClassVar[str] = "create any TCP/IP sockets"

    def __init__(
        self,
        programs: PostgresPrograms,
        *,
        account: ServerAccount,
        owned: OwnedFolder,
        beside: Path | None = None,
    ) -> None:
        """Keep the data in ``owned``, or in ``beside`` when the account cannot enter that; starts nothing."""
        super().__init__(owned)
        self._programs = programs
        self._account = account
        self.cluster = (beside or owned.path) / f"postgresql-{programs.major}"
        self._lock_file = self.cluster / "postmaster.pid"
        self._password_file = owned.path / f"postgresql-{programs.major}.password"

    @property
    def url(self) -> str:
        """URL of the database with its password, in the form of psql and all drivers."""
        return (
            f"postgresql://{USER}:{self._password_file.read_text().strip()}@127.0.0.1:{self.port}/{DATABASE}"
        )

    def begin(self) -> None:
        """Make the cluster if it is missing, and start the server without waiting."""
        if not self.cluster.exists():
            self._make_cluster()
        if not self._password_file.exists():
            raise FolderUnusable(
                f"{self.cluster} is there, but the file with its password, {self._password_file.name}, is not. "
                f"Start from an empty folder: rm -r '{self.cluster}'."
            )
        super().begin()

    def end(self) -> None:
        """End the server and wait until it has ended; without a checkpoint when its data is thrown away."""
        if self._child is not None:
            if self._owned.throwaway:
                self._child.end((signal.SIGQUIT, 5.0))
            else:
                self._child.end((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))

    def _arguments(self) -> list[str]:
        settings = SETTINGS | (THROWAWAY_SETTINGS if self._owned.throwaway else {}) | {"port": str(self.port)}
        return ["-D", str(self.cluster), *(f"--{name}={value}" for name, value in settings.items())]

    def _spawn_server(self) -> Child:
        # We hold the folder's lock, which its servers inherit, so the server that wrote this file has ended.
        self._lock_file.unlink(missing_ok=True)
        return self._spawn(self._programs.postgres, *self._arguments(), log=self._log)

    def _is_ready(self) -> bool:
        """Whether the postmaster has written "ready" to its lock file, which is read without a connection."""
        lines = self._lock_file.read_text().splitlines() if self._lock_file.exists() else []
        return len(lines) >= _LOCK_FILE_LINES and lines[_LOCK_FILE_LINES - 1].strip() == "ready"

    def _make_cluster(self) -> None:
        """Make a cluster under a temporary name first, so that an interrupted start leaves no incomplete one."""
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
        # CREATE DATABASE would copy a database, which takes several times as long as a rename.
        rename = f"ALTER DATABASE postgres RENAME TO {DATABASE}\n"
        self._run(self._programs.postgres, "--single", "-F", "-D", str(unfinished), "template1", stdin=rename)
        unfinished.rename(self.cluster)

    def _run(self, program: Path, *arguments: str, stdin: str = "") -> None:
        """Run a program that prepares the cluster, and wait for its end."""
        child = self._spawn(program, *arguments, log=self._owned.path / "initdb.log", stdin=stdin)
        done = child.wait(self.ready_seconds)
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

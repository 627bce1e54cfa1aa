"""Runs the command line as a person does: in a process of its own, with an environment of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Long enough for a busy machine; a command that hangs still fails its test.
COMMAND_SECONDS = 40.0


def environment(**variables: str | Path) -> Mapping[str, str]:
    """The environment of a command: that of a plain shell, and ``variables``."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "COLUMNS": "100"} | {
        name: str(value) for name, value in variables.items()
    }


def command(*arguments: str) -> list[str]:
    """The words that start the command line from the checkout."""
    return [sys.executable, "-m", "realtime.cli", *arguments]


Guardwire = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def guardwire() -> Guardwire:
    """Run a command to its end: `guardwire("token", "--ttl", "60", GUARDWIRE_DATA=folder)`."""

    def run(*arguments: str, **variables: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            env=environment(**variables),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            cwd=ROOT,
            check=False,
        )

    return run


@contextlib.contextmanager
def applying(database_url: str, name: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of `guardwire apply` while the context lasts; its log is ``folder``/``name``.log."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command("apply"),
            env=environment(DATABASE_URL=database_url, GUARDWIRE_NODE=name),
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()

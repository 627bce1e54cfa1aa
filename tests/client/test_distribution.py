"""`guardwire-client`: the public package alone, in an environment that has nothing of the server."""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

import guardwire
from tests.end_to_end.node import Node, node

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "packaging" / "guardwire-client"
#: Supabase's client depends on it: the package whose name bots and our server would otherwise fight for.
NEIGHBOUR = "realtime==2.34.1"
SERVERS_LIBRARIES = {
    "alembic", "asyncpg", "jwt", "redis", "rich", "sqlalchemy", "starlette", "typer", "uvicorn", "uvloop",
}  # fmt: skip
BOT = """
import asyncio, json, sys
import realtime
from guardwire import connect

async def main(url, token):
    async with connect(url, token=token) as account:
        async for state in account.fresh_states():
            names = sorted({name.split(".")[0] for name in sys.modules})
            seen = [state.status.status, account.transport, realtime.__file__, names]
            return print(json.dumps(seen))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def server(migrated_url: str, redis_url: str) -> AsyncIterator[Node]:
    async with node(migrated_url, redis_url) as server:
        yield server


def run(*command: str | Path, **options: object) -> str:
    """The output of a command that has to succeed."""
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return str(ended.stdout)


def build_wheel(into: Path) -> Path:
    """The wheel of `guardwire-client`, built from this checkout."""
    # A copy, because a build leaves files in its folder that the next build would take for sources.
    source = shutil.copytree(CLIENT, into / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    run(
        sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", into, source
    )
    (wheel,) = into.glob("*.whl")
    return wheel


def make_environment(folder: Path, *requirements: str | Path) -> Path:
    """The Python of a new virtual environment that holds these; the test is skipped where no package index answers."""
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    probe = f"{python} -m pip download --quiet --no-deps --dest {folder / 'probe'} {NEIGHBOUR}"
    if subprocess.run(probe.split(), capture_output=True, check=False).returncode != 0:
        pytest.skip("no package index can be reached")
    run(python, "-m", "pip", "install", "--quiet", *requirements)
    return python


@pytest.mark.timeout(300)
async def test_a_bot_follows_a_node_with_the_client_alone_beside_pypis_realtime(
    server: Node, tmp_path: Path
) -> None:
    wheel = build_wheel(tmp_path / "wheels")
    python = await asyncio.to_thread(make_environment, tmp_path / "environment", wheel, NEIGHBOUR)
    user_id = uuid4()
    bot = await asyncio.to_thread(
        run, python, "-I", "-c", BOT, server.url, server.token(user_id), cwd=tmp_path, timeout=60
    )
    status, transport, neighbour, modules = json.loads(bot)
    assert (status, transport) == ("idle", "websocket")
    assert Path(neighbour).is_relative_to(tmp_path)
    assert {"h11", "msgspec", "websockets"} <= set(modules)
    assert SERVERS_LIBRARIES.isdisjoint(modules)


def test_both_distributions_have_one_version() -> None:
    for project in (ROOT / "pyproject.toml", CLIENT / "pyproject.toml"):
        settings = tomllib.loads(project.read_text("utf-8"))
        assert settings["project"]["dynamic"] == ["version"]
        assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "guardwire.__version__"}


def test_the_vocabulary_does_not_load_the_client() -> None:
    load = "import guardwire.messages, guardwire.patch, sys; print(*sys.modules)"
    loaded = run(sys.executable, "-c", load, cwd=ROOT).split()
    assert "guardwire.messages" in loaded
    assert {"guardwire.client", "websockets", "h11", "asyncio"}.isdisjoint(loaded)


def test_every_public_name_is_there_and_no_other() -> None:
    for name in guardwire.__all__:
        assert getattr(guardwire, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'disconnect'"):
        _ = guardwire.disconnect  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["client", "state"])
def test_the_names_of_the_first_release_still_work_and_warn(name: str) -> None:
    sys.modules.pop(f"realtime.{name}", None)
    with pytest.warns(DeprecationWarning, match=rf"realtime\.{name} is now guardwire"):
        former = importlib.import_module(f"realtime.{name}")
    if name == "client":
        assert former.connect is guardwire.connect
    else:
        assert former.AccountState is importlib.import_module("guardwire.state").AccountState

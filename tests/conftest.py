"""Real servers for every test: one PostgreSQL and one Redis a run, databases of their own for each test.

`DATABASE_URL` and `REDIS_URL` are used when given; any number of runs may share them, side by side.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from realtime import settings
from realtime.cli.process import allow_many_connections
from realtime.embedded import EmbeddedServers
from tests.data_folders import open_folder
from tests.databases import Databases
from tests.logical_redis import LogicalRedis

if TYPE_CHECKING:
    from tests.end_to_end.history_runner import HistoryRunner

#: How long a cancelled task may take to end.
ENDING_SECONDS = 2.0

_environment = pytest.StashKey[Mapping[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Read the settings of the environment once, and remove them, so that no test depends on the caller's shell.

    When several processes share the tests, the first one passes the settings on to the others.
    """
    # Clients and servers of a test share a process, where a shell gives an ordinary user 1,024 files.
    allow_many_connections()
    names = [setting.variable for setting in settings.SETTINGS.values()]
    ours = {name: os.environ.pop(name) for name in names if name in os.environ}
    config.stash[_environment] = getattr(config, "workerinput", {}).get("environment", ours)
    # On a busy machine examples are drawn slowly, which says nothing about the code under test.
    slow_machine = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=slow_machine)
    hypothesis.settings.load_profile("any machine")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Called by pytest-xdist for each further process, before it starts."""
    node.workerinput["environment"] = node.config.stash[_environment]


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Iterator[EmbeddedServers]:
    """PostgreSQL and Redis of this run."""
    given = settings.read(pytestconfig.stash[_environment])
    with EmbeddedServers.start(
        database_url=given.database_url, redis_url=given.redis_url, source=given.server_binaries
    ) as servers:
        yield servers


@pytest.fixture(scope="session")
def databases(servers: EmbeddedServers) -> Iterator[Databases]:
    """Makes further databases, for tests that need more than one."""
    with Databases(servers.database_url, is_throwaway=servers.postgres is not None) as databases:
        yield databases


@pytest.fixture(scope="session")
def migrated_template(databases: Databases) -> Iterator[str]:
    """URL of a migrated database, for copies (`databases.make(like=…)`); no test connects to it."""
    from queries.migrations.run import migrate

    url = databases.make()
    try:
        databases.run(migrate(url))
        yield url
    finally:
        databases.drop(url)


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """URL of an empty database; a connection to it after the test fails the test."""
    url = databases.make()
    yield url
    databases.drop(url)


@pytest.fixture
def migrated_url(databases: Databases, migrated_template: str) -> Iterator[str]:
    """URL of a freshly migrated database; a connection to it after the test fails the test."""
    url = databases.make(like=migrated_template)
    yield url
    databases.drop(url)


@pytest.fixture
def history_runner(migrated_url: str) -> Iterator[HistoryRunner]:
    """Runs drawn histories in a freshly migrated database."""
    from tests.end_to_end.history_runner import HistoryRunner

    runner = HistoryRunner.open(migrated_url)
    yield runner
    runner.close()


@pytest.fixture(scope="session")
def logical_redis(servers: EmbeddedServers) -> Iterator[LogicalRedis]:
    ours = LogicalRedis(servers.redis_url)
    yield ours
    ours.release()


@pytest.fixture
def redis_url(logical_redis: LogicalRedis) -> Iterator[str]:
    """URL of an empty Redis; a connection to it after the test fails the test."""
    logical_redis.empty()
    yield logical_redis.url
    left = logical_redis.send_clients_away()
    logical_redis.empty()
    assert not left, f"the test is over, but still connected to its Redis: {', '.join(left)}"


@pytest.fixture
def empty_folder() -> Iterator[Path]:
    """An empty folder that the servers' account can enter."""
    with open_folder() as path:
        yield path


@pytest.fixture
def data_folder(made_folder: Path) -> Iterator[Path]:
    """A data folder that already has a cluster, which saves most of the time of a start."""
    with open_folder() as path:
        subprocess.run(["cp", "-a", f"{made_folder}/.", path], check=True)
        yield path


@pytest.fixture(scope="session")
def made_folder() -> Iterator[Path]:
    """The original of every `data_folder`; no test starts servers in it."""
    with open_folder() as path:
        EmbeddedServers.start(path).end()
        for port in path.glob("*.port"):
            port.unlink()
        yield path


@pytest.fixture(autouse=True)
def _watched_tasks(request: pytest.FixtureRequest) -> None:
    """Watch the tasks of asynchronous tests alone, because other tests have no event loop, or one of their own."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("no_task_is_left_behind")


@pytest.fixture
async def no_task_is_left_behind() -> AsyncIterator[None]:
    """Fail a test that leaves an asyncio task running."""
    yield
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, left = await asyncio.wait(others, timeout=ENDING_SECONDS)
        assert not left, f"the test is over, but not its tasks: {', '.join(map(repr, left))}"

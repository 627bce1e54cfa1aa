"""A primary and a standby for all tests of this folder, with a database of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import asyncpg
import pytest

from queries.migrations.run import migrate
from realtime import settings
from tests.conftest import _environment
from tests.databases import Databases
from tests.end_to_end.mirror import Mirror
from tests.queries.database_writer import DatabaseWriter
from tests.regions.servers import Replicas, ReplicatedPostgres, replayed, replicas


class Pair(NamedTuple):
    """One database on both servers, by its URL on each."""

    primary: str
    standby: str


@pytest.fixture(scope="session")
def all_replicas(pytestconfig: pytest.Config) -> Iterator[Replicas]:
    source = settings.read(pytestconfig.stash[_environment]).server_binaries
    with replicas(source) as made:
        yield made


@pytest.fixture(scope="session")
def standby_server(all_replicas: Replicas) -> ReplicatedPostgres:
    """The standby of all tests that do not promote it."""
    return all_replicas.standby()


@pytest.fixture(scope="session")
def primary_databases(all_replicas: Replicas) -> Iterator[Databases]:
    with Databases(all_replicas.primary.url, is_throwaway=False) as databases:
        yield databases


@pytest.fixture(scope="session")
def primary_template(primary_databases: Databases) -> str:
    url = primary_databases.make()
    primary_databases.run(migrate(url))
    return url


@pytest.fixture
def primary_url(primary_databases: Databases, primary_template: str) -> Iterator[str]:
    """A migrated database of the primary."""
    url = primary_databases.make(like=primary_template)
    yield url
    primary_databases.drop(url)


@pytest.fixture
async def pair(primary_url: str, standby_server: ReplicatedPostgres) -> Pair:
    """A migrated database on both servers."""
    await replayed(primary_url, standby_server.url)
    return Pair(primary_url, standby_server.url_of(primary_url))


@pytest.fixture
async def writer(primary_url: str) -> AsyncIterator[DatabaseWriter]:
    """Writes at the primary as a platform does; the nodes apply it."""
    connection = await asyncpg.connect(primary_url)
    yield DatabaseWriter(connection, applies=False)
    await connection.close()


def equity_of(account: Mirror) -> Any:
    return account.state["guards"]["drawdown"].get("current_equity")


async def until_equity(equity: int, *accounts: Mirror) -> None:
    for account in accounts:

        def is_shown(account: Mirror = account) -> bool:
            return bool(equity_of(account) == equity)

        await account.until(is_shown)

"""The composition's logins, on servers that are started as in `deploy/compose.yaml`."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
import pytest
import redis.asyncio
import redis.exceptions
import yaml  # type: ignore[import-untyped]

from realtime.embedded import EmbeddedServers
from realtime.embedded.account import server_account
from realtime.embedded.folder import free_port
from realtime.embedded.programs import find_redis
from tests.auth.issuer import secret_token
from tests.operations.server_process import ServerProcess, server_process

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy/compose.yaml"
ACCOUNT = UUID("76a33560-4087-584a-a21c-71150e379533")
SYNC = (
    "INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, direction, volume, entry_price,"
    " current_price, matched, event_type)"
    f" VALUES ('{ACCOUNT}', 7, 'XAUUSD', 'buy', 0.1, 1950, 1955, 1, 'sync')"
)


class Composition:
    """`compose.yaml` with a password for each variable; ``ports`` are those of its servers here."""

    def __init__(self) -> None:
        text = COMPOSE.read_text("utf-8")
        self._values = {name: secrets.token_hex(12) for name in re.findall(r"\$\{([A-Z_]+):\?\}", text)}
        self.ports: dict[str, int] = {}
        filled = re.sub(r"\$\{([A-Z_]+):\?\}", lambda found: self._values[found[1]], text)
        self.services: dict[str, Any] = yaml.safe_load(filled.replace("$$", "$"))["services"]

    def url(self, service: str, variable: str) -> str:
        """A URL in the environment of ``service``, with the address of its server here."""
        url = urlsplit(str(self.services[service]["environment"][variable]))
        server, _, port = url.netloc.rpartition("@")[2].partition(":")
        assert port == {"postgres": "5432", "redis": "6379"}[server]
        login = url.netloc.rpartition("@")[0]
        return url._replace(netloc=f"{login}@127.0.0.1:{self.ports[server]}").geturl()

    def login(self, name: str) -> str:
        """URL of the platform's database for another login of `logins.sql`."""
        node = urlsplit(self.url("guardwire-1", "DATABASE_URL"))
        password = self._values[f"{name.upper()}_PASSWORD"]
        return node._replace(netloc=f"{name}:{password}@127.0.0.1:{self.ports['postgres']}").geturl()


async def make_database(composition: Composition, superuser_url: str) -> None:
    """Do the same as PostgreSQL's image: make a database and run the scripts in its folder, as the superuser."""
    service = composition.services["postgres"]
    environment = service["environment"]
    (mount,) = [each for each in service["volumes"] if "docker-entrypoint-initdb.d" in each]
    script = (COMPOSE.parent / mount.split(":")[0]).read_text("utf-8")
    variables = {"DBNAME": environment["POSTGRES_DB"]}
    for name, variable in re.findall(r"^\\getenv (\w+) (\w+)$", script, re.MULTILINE):
        variables[name] = environment[variable]
    # As in psql: \getenv, :'variable' as a literal and :"variable" as a name.
    script = re.sub(r"^\\getenv .*$", "", script, flags=re.MULTILINE)
    script = re.sub(r":(['\"])(\w+)\1", lambda found: f"{found[1]}{variables[found[2]]}{found[1]}", script)
    connection = await asyncpg.connect(superuser_url)
    await connection.execute(f'CREATE DATABASE "{environment["POSTGRES_DB"]}"')
    await connection.close()
    made = urlsplit(superuser_url)._replace(path=f"/{environment['POSTGRES_DB']}").geturl()
    connection = await asyncpg.connect(made)
    await connection.execute(script)
    await connection.close()


def run_redis(composition: Composition, folder: Path) -> subprocess.Popen[bytes]:
    """Do the same as Redis' image, with a free port and an installed program."""
    service = composition.services["redis"]
    program = find_redis(server_account())
    stub = folder / "redis-server"
    port = composition.ports["redis"] = free_port()
    stub.write_text(f'#!/bin/sh\nexec {program} "$@" --port {port} --bind 127.0.0.1 --dir {folder}\n')
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    path = f"{folder}:{os.environ['PATH']}"
    return subprocess.Popen(
        service["command"], env={"PATH": path, **service["environment"]}, stdout=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def composition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """PostgreSQL and Redis as in the composition, and migrated."""
    composition = Composition()
    with EmbeddedServers.start(redis_url="redis://not-used") as servers:
        composition.ports["postgres"] = urlsplit(servers.database_url).port or 0
        asyncio.run(make_database(composition, servers.database_url))
        cache = run_redis(composition, tmp_path_factory.mktemp("redis"))
        try:
            migrate = composition.services["migrate"]
            subprocess.run(
                [sys.executable, "-m", "realtime.cli", *migrate["command"]],
                env={"PATH": os.environ["PATH"], "DATABASE_URL": composition.url("migrate", "DATABASE_URL")},
                cwd=ROOT,
                check=True,
                capture_output=True,
            )
            yield composition
        finally:
            cache.kill()
            cache.wait()


@pytest.fixture
async def node(composition: Composition, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    database, cache = (composition.url("guardwire-1", name) for name in ("DATABASE_URL", "REDIS_URL"))
    async with server_process(database, cache, tmp_path) as server:
        yield server


async def test_a_node_is_ready_and_has_nothing_to_warn_of(
    composition: Composition, node: ServerProcess
) -> None:
    await node.says(lambda line: line["message"].startswith("self-test done"))
    assert [line for line in node.lines() if line["level"] not in ("INFO", "DEBUG")] == []
    headers = {"Authorization": f"Bearer {secret_token(sub=str(ACCOUNT))}"}
    async with httpx.AsyncClient(base_url=node.url, headers=headers) as client:
        assert (await client.post("/api/v1/tickets")).status_code in (200, 201)
        platform = await asyncpg.connect(composition.login("platform"))
        await platform.execute(SYNC)
        await platform.close()
        async with asyncio.timeout(20):
            while (await client.get("/api/v1/positions/open")).json()["total_positions"] != 1:
                await asyncio.sleep(0.05)
            for shown in (
                'guardwire_self_test_failed{check="login"} 0',
                "guardwire_redis_up 1",
                'guardwire_snapshot_commits_total{result="stored"} ',
            ):
                while shown not in (await client.get("/metrics")).text:
                    await asyncio.sleep(0.05)
    assert [line for line in node.lines() if line["level"] not in ("INFO", "DEBUG")] == []


BEYOND_A_NODE = (
    SYNC,
    "DELETE FROM reconciliation_logs",
    "UPDATE guardwire.accounts SET revision = revision + 1",
    "ALTER TABLE reconciliation_logs DISABLE TRIGGER ALL",
    "DROP TABLE reconciliation_logs",
    "CREATE TABLE public.mine (id integer)",
    "CREATE TABLE guardwire.mine (id integer)",
    "CREATE TEMPORARY TABLE mine (id integer)",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "ALTER ROLE node SUPERUSER",
    "SET ROLE migrator",
    "SET ROLE guardwire_platform",
    "COPY (SELECT 1) TO PROGRAM 'true'",
)


@pytest.mark.parametrize("statement", BEYOND_A_NODE)
async def test_a_nodes_login_may_not(composition: Composition, statement: str) -> None:
    connection = await asyncpg.connect(composition.url("guardwire-1", "DATABASE_URL"))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("statement", ["SELECT * FROM guardwire.accounts", *BEYOND_A_NODE[2:-3]])
async def test_the_platforms_login_may_not(composition: Composition, statement: str) -> None:
    connection = await asyncpg.connect(composition.login("platform"))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_nothing_connects_as_the_superuser(composition: Composition) -> None:
    superuser = composition.services["postgres"]["environment"]["POSTGRES_USER"]
    for name, service in composition.services.items():
        url = service.get("environment", {}).get("DATABASE_URL")
        assert url is None or urlsplit(url).username != superuser, name
    migrator = await asyncpg.connect(composition.login("migrator"))
    assert await migrator.fetchval("SHOW is_superuser") == "off"
    await migrator.close()


async def test_redis_takes_nobody_without_a_password(composition: Composition) -> None:
    async with redis.asyncio.Redis(port=composition.ports["redis"]) as anonymous:
        with pytest.raises(redis.exceptions.AuthenticationError):
            await anonymous.ping()


@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "GET", "*"),
        ("FLUSHALL",),
        ("SHUTDOWN",),
        ("KEYS", "*"),
        ("ACL", "LIST"),
        ("MONITOR",),
        ("REPLICAOF", "NO", "ONE"),
        ("SET", "somebody-elses", "1"),
        ("EVAL", "return redis.call('GET', KEYS[1])", "1", "somebody-elses"),
        ("PUBLISH", "channel", "1"),
    ],
    ids=lambda command: command[0],
)
async def test_a_node_may_not_have_redis_do(composition: Composition, command: tuple[str, ...]) -> None:
    async with redis.asyncio.from_url(composition.url("guardwire-1", "REDIS_URL")) as client:
        with pytest.raises(redis.exceptions.NoPermissionError):
            await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def test_a_node_with_the_owners_login_warns(composition: Composition, tmp_path: Path) -> None:
    url, cache = composition.url("migrate", "DATABASE_URL"), composition.url("guardwire-1", "REDIS_URL")
    async with server_process(url, cache, tmp_path) as server:
        await server.says(
            lambda line: line["level"] == "WARNING" and "the owner of tables" in line["message"]
        )

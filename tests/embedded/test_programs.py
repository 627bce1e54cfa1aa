"""Server programs: installed ones first, then those in wheels."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from realtime.embedded import EmbeddedServers, ServerAccount, programs, server_account
from realtime.errors import NoServerProgram, ServerNotReady


async def test_the_wheels_alone_are_enough(empty_folder: Path) -> None:
    with EmbeddedServers.start(empty_folder, source="wheels") as servers:
        connection = await asyncpg.connect(servers.database_url)
        try:
            assert await connection.fetchval("SELECT now() IS NOT NULL")
        finally:
            await connection.close()
        async with redis.asyncio.Redis.from_url(servers.redis_url) as client:
            assert await client.eval("return redis.call('PING')['ok']", 0) == b"PONG"


@pytest.mark.parametrize(
    ("find", "remedy"),
    [
        (programs.find_postgres, "apt install postgresql, or set DATABASE_URL"),
        (programs.find_redis, "apt install redis-server, or set REDIS_URL"),
    ],
)
def test_a_machine_without_programs_is_one_sentence_with_a_remedy(
    find: Callable[..., object], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoServerProgram, match=remedy):
        find(server_account(), source="installed", folders=())


def test_an_installed_postgresql_that_is_too_old_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("postgres", "initdb"):
        (tmp_path / name).write_text('#!/bin/sh\necho "postgres (PostgreSQL) 9.6.24"\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    own_account = ServerAccount("own", os.geteuid(), os.getegid(), is_other=False)
    with pytest.raises(NoServerProgram):
        programs.find_postgres(own_account, source="installed", folders=())


def test_a_carrier_that_lost_its_executable_bits_is_copied_and_runs(
    empty_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "carrier" / "bin").mkdir(parents=True)
    (tmp_path / "carrier" / "include").mkdir()
    (tmp_path / "carrier" / "__init__.py").write_text("raise AssertionError('the wheel itself was imported')")
    (tmp_path / "carrier" / "bin" / "server").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "carrier" / "bin" / "server").chmod(0o644)
    (tmp_path / "carrier-1.0.dist-info").mkdir()
    (tmp_path / "carrier-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    cache, program = empty_folder / "cache", "carrier/bin/server"
    for _ in ("copied", "found again"):
        carried = programs.find_in_wheel("carrier", "carrier", program, server_account(), cache=cache)
        assert carried == cache / "carrier-1.0" / "carrier" / "bin" / "server"
        assert server_account().can_run(carried)
        assert not (carried.parents[1] / "include").exists()


def test_a_program_that_fails_is_quoted(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = empty_folder / "redis-server"
    broken.write_text("#!/bin/sh\necho 'Fatal error: the moon is wrong'\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{empty_folder}:{os.environ['PATH']}")
    with pytest.raises(ServerNotReady, match="the moon is wrong"):
        EmbeddedServers.start(empty_folder / "data")
    assert not (empty_folder / "data" / "lock").exists()

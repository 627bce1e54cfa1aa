"""Data folders: owned by one process, kept across starts, with one sentence for each obstacle."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from realtime.embedded import EmbeddedServers, server_account
from realtime.embedded.folder import free_port
from realtime.errors import FolderInUse, FolderUnusable
from tests.embedded.conftest import Ordinary, StartOwner


def test_a_second_owner_is_refused_with_the_first_ones_number(
    start_owner: StartOwner, data_folder: Path
) -> None:
    owner = start_owner()
    with pytest.raises(FolderInUse) as refusal:
        EmbeddedServers.start(data_folder)
    assert refusal.value.owner_pid == owner.process.pid
    assert f"kill {owner.process.pid}" in str(refusal.value)
    assert "GUARDWIRE_DATA=" in str(refusal.value)


def test_the_lock_of_a_dead_process_is_no_obstacle(data_folder: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait()
    (data_folder / "lock").write_text(f"{dead.pid}\n")
    EmbeddedServers.start(data_folder).end()
    assert not (data_folder / "lock").exists()


async def test_data_is_kept_and_the_address_too_until_it_is_wiped(data_folder: Path) -> None:
    async def execute(url: str, statement: str) -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    with EmbeddedServers.start(data_folder) as first:
        await execute(first.database_url, "CREATE TABLE kept ()")
    with EmbeddedServers.start(data_folder) as second:
        assert second.database_url == first.database_url
        assert urlsplit(second.redis_url).port == urlsplit(first.redis_url).port
        assert await execute(second.database_url, "SELECT to_regclass('kept')") == "kept"
    with EmbeddedServers.start(data_folder, wipe=True) as third:
        assert await execute(third.database_url, "SELECT to_regclass('kept')") is None


def test_a_path_too_long_for_a_unix_socket_is_no_obstacle(empty_folder: Path) -> None:
    deep = empty_folder / ("long" * 30) / "and a space"
    with EmbeddedServers.start(deep) as servers:
        assert urlsplit(servers.database_url).hostname == "127.0.0.1"


def test_another_listener_on_the_remembered_ports_moves_the_servers(data_folder: Path) -> None:
    with EmbeddedServers.start(data_folder) as servers:
        ports = [urlsplit(url).port for url in (servers.database_url, servers.redis_url)]
    taken = [socket.create_server(("127.0.0.1", port or 0)) for port in ports]
    try:
        with EmbeddedServers.start(data_folder) as servers:
            moved = [urlsplit(url).port for url in (servers.database_url, servers.redis_url)]
    finally:
        for listener in taken:
            listener.close()
    assert not set(moved) & set(ports)


def test_a_port_that_is_taken_between_the_check_and_the_start_is_no_obstacle(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = iter([listener.getsockname()[1]] * 2)
        monkeypatch.setattr(
            "realtime.embedded.server.remembered_port", lambda _: next(taken, None) or free_port()
        )
        with EmbeddedServers.start(data_folder) as servers:
            assert servers.postgres is not None
            assert servers.redis is not None
            assert listener.getsockname()[1] not in (servers.postgres.port, servers.redis.port)


def test_a_folder_that_cannot_be_made_is_one_sentence_with_a_remedy(empty_folder: Path) -> None:
    (empty_folder / "file").touch()
    with pytest.raises(FolderUnusable, match="GUARDWIRE_DATA=") as refusal:
        EmbeddedServers.start(empty_folder / "file" / "data")
    assert "Not a directory" in str(refusal.value)


def test_a_folder_that_cannot_be_written_is_one_sentence_with_a_remedy(
    start_owner: StartOwner, ordinary: Ordinary, empty_folder: Path
) -> None:
    (empty_folder / "closed").mkdir(mode=0o500)
    answer = start_owner(empty_folder / "closed", command=ordinary.command, root=ordinary.root).answer
    assert answer["code"] == "folder_unusable"
    assert "Permission denied" in answer["sentence"]
    assert "sudo chown" in answer["sentence"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts the servers as another account")
def test_a_folder_that_the_servers_account_cannot_enter_stays_closed_and_its_files_go_elsewhere(
    empty_folder: Path,
) -> None:
    elsewhere, closed = empty_folder / "elsewhere", empty_folder / "closed"
    closed.mkdir(mode=0o700)
    with EmbeddedServers.start(closed / "data", elsewhere=elsewhere) as servers:
        assert servers.postgres is not None
        assert servers.postgres.cluster.is_relative_to(elsewhere)
        assert servers.postgres.cluster.stat().st_uid == server_account().uid
    assert closed.stat().st_mode & 0o777 == 0o700


def test_an_incomplete_cluster_is_made_again(start_owner: StartOwner, empty_folder: Path) -> None:
    unfinished = empty_folder / "postgresql-15.unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("15\n")
    owner = start_owner(empty_folder)
    assert "database_url" in owner.answer
    owner.process.send_signal(signal.SIGINT)
    owner.process.wait(10)

"""Servers end with the process that started them, also when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from realtime.embedded import EmbeddedServers
from tests.embedded.conftest import ROOT, Ordinary, Owner, StartOwner
from tests.embedded.processes import wait_until_ended


async def answers(owner: Owner) -> bool:
    connection = await asyncpg.connect(owner.answer["database_url"])
    await connection.close()
    async with redis.asyncio.Redis.from_url(owner.answer["redis_url"]) as client:
        return bool(await client.ping())


async def test_kill_9_of_the_owner_leaves_no_orphan_and_a_folder_that_starts_again(
    start_owner: StartOwner,
) -> None:
    owner = start_owner()
    assert await answers(owner)
    servers = owner.servers()
    owner.process.kill()
    assert wait_until_ended(servers) == set()
    again = start_owner()
    assert await answers(again)
    assert again.answer["database_url"] == owner.answer["database_url"]


def test_a_start_right_after_kill_9_waits_for_the_servers_that_wind_down(start_owner: StartOwner) -> None:
    owner = start_owner()
    owner.process.kill()
    owner.process.wait()
    assert "database_url" in start_owner().answer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_owners_end_by_a_signal_leaves_no_process(
    start_owner: StartOwner, number: signal.Signals
) -> None:
    owner = start_owner()
    servers = owner.servers()
    owner.process.send_signal(number)
    owner.process.wait(10)
    assert wait_until_ended(servers) == set()


def test_ctrl_c_leaves_no_lock(start_owner: StartOwner, data_folder: Path) -> None:
    owner = start_owner()
    assert (data_folder / "lock").exists()
    owner.process.send_signal(signal.SIGINT)
    assert owner.process.wait(10) == 0
    assert not (data_folder / "lock").exists()
    assert not list(data_folder.glob("postgresql-*/postmaster.pid"))


def test_ctrl_c_in_the_terminal_reaches_the_owner_alone(start_owner: StartOwner) -> None:
    owner = start_owner()
    groups = {os.getpgid(server.pid) for server in owner.servers()}
    assert os.getpgid(owner.process.pid) not in groups


def test_what_is_to_be_thrown_away_is_gone_after_the_end(start_owner: StartOwner) -> None:
    owner = start_owner(None)
    place = Path(owner.answer["cluster"]).parent
    assert place.exists()
    owner.process.send_signal(signal.SIGINT)
    owner.process.wait(10)
    assert not place.exists()


def test_what_a_killed_owner_left_to_be_thrown_away_goes_with_the_next_start(start_owner: StartOwner) -> None:
    owner = start_owner(None)
    place = Path(owner.answer["cluster"]).parent
    assert place.exists()
    servers = owner.servers()
    owner.process.kill()
    assert wait_until_ended(servers) == set()
    start_owner(None)
    assert not place.exists()


def test_servers_start_from_the_main_thread_only(data_folder: Path) -> None:
    raised: list[Exception] = []

    def start() -> None:
        try:
            EmbeddedServers.start(data_folder)
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main" in str(raised[0])
    assert not (data_folder / "lock").exists()


def test_where_the_kernel_has_no_death_signal_a_closed_pipe_ends_the_server() -> None:
    watching = (
        "import os, sys; sys.path.insert(0, 'realtime/embedded'); import launcher;"
        "server = os.posix_spawn('/bin/sleep', ['sleep', '60'], os.environ);"
        "print(server, flush=True); launcher.watch(server, int(sys.argv[1]), 15)"
    )
    watched_fd, watch_fd = os.pipe()
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", watching, str(watched_fd)],
        pass_fds=(watched_fd,), stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    os.close(watched_fd)
    assert watcher.stdout is not None
    with watcher.stdout:
        server = int(watcher.stdout.readline())
    assert watcher.poll() is None
    os.kill(server, 0)
    os.close(watch_fd)
    assert watcher.wait(10) == (-signal.SIGTERM) & 0xFF
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


async def test_an_ordinary_account_starts_them_too_and_kill_9_leaves_no_orphan(
    start_owner: StartOwner, ordinary: Ordinary, empty_folder: Path
) -> None:
    data_folder = empty_folder / "data"
    data_folder.mkdir()
    os.chown(data_folder, ordinary.uid, ordinary.uid)
    owner = start_owner(data_folder, command=ordinary.command, root=ordinary.root)
    assert await answers(owner)
    servers = owner.servers()
    assert {server.uid for server in servers} == {ordinary.uid}
    owner.process.kill()
    assert wait_until_ended(servers) == set()


def test_both_are_ready_soon(data_folder: Path) -> None:
    EmbeddedServers.start(data_folder).end()
    begun = time.monotonic()
    with EmbeddedServers.start(data_folder):
        ready_seconds = time.monotonic() - begun
    assert ready_seconds < 1.0

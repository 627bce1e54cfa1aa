"""`guardwire demo`: it starts everything, each line that it prints works, and its end leaves nothing running."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx
import pytest

from realtime.simulator import demo_user_id
from tests.cli.conftest import ROOT, Guardwire, command, environment
from tests.embedded.processes import Process, family, wait_until_ended

READY_SECONDS = 40.0


@dataclass
class Demo:
    """A running demo, and its output so far."""

    process: subprocess.Popen[str]
    output: str = ""
    started_at: float = field(default_factory=time.monotonic)

    def address(self, name: str) -> str:
        found = re.search(rf"^ +{name} +(\S+)$", self.output, re.MULTILINE)
        assert found is not None, self.output
        return found[1]

    def line(self, beginning: str) -> str:
        """The command to paste that starts with ``beginning``."""
        (found,) = (line.strip() for line in self.output.splitlines() if line.strip().startswith(beginning))
        return found

    def processes(self) -> set[Process]:
        found = family(self.process.pid)
        assert len(found) >= 3, "PostgreSQL, a child of its, and Redis at least"
        return found

    def wait_until_ready(self) -> None:
        deadline = self.started_at + READY_SECONDS
        pipe = self.process.stdout
        assert pipe is not None
        while "Ctrl-C" not in self.output:
            readable, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(pipe.fileno(), 65536).decode() if readable else ""
            assert chunk, f"not ready in time, or ended: {self.output}"
            self.output += chunk


@contextmanager
def running(*prefix: str, **variables: str | Path) -> Iterator[Demo]:
    """A demo that is ready, on a free port; it is killed at the end if it still runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = subprocess.Popen(
        [*prefix, *command("demo")],
        env=environment(GUARDWIRE_PORT=str(port), **variables),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    demo = Demo(process)
    try:
        demo.wait_until_ready()
        yield demo
    finally:
        servers = family(process.pid)
        if process.poll() is None:
            process.kill()
        process.wait()
        # The servers of a killed demo end by themselves, and remove files from the folder meanwhile.
        left = wait_until_ended(servers)
        assert not left
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="module")
def demo(made_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for all tests that only read from it."""
    folder = made_folder.with_name(made_folder.name + "-demo")
    subprocess.run(["cp", "-a", made_folder, folder], check=True)
    try:
        with running(GUARDWIRE_DATA=folder) as demo:
            yield demo
    finally:
        shutil.rmtree(folder)


def paste(line: str) -> str:
    """The output of a command that is pasted into a shell in another folder."""
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        cwd="/",
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_curl_line_works_when_pasted(demo: Demo) -> None:
    guards = json.loads(paste(demo.line("curl")))
    assert guards["user_id"] == str(demo_user_id())


def test_the_websocket_line_works_when_pasted(demo: Demo) -> None:
    line = demo.line("{ printf")
    printed = paste(line.replace("cat;", "sleep 2;"))
    assert '"type":"welcome"' in printed
    assert '"type":"snapshot"' in printed


def test_the_watch_line_works_when_pasted(demo: Demo) -> None:
    printed = paste(f"{demo.line('GUARDWIRE_DATA=').replace(' $(', ' ')} | head -n 3")
    changes = [json.loads(line) for line in printed.splitlines()]
    assert len(changes) == 3
    assert all(change["path"][0] in ("status", "positions", "guards") for change in changes)


@pytest.mark.skipif(not shutil.which("psql"), reason="no psql here")
def test_the_database_url_is_one_that_psql_takes(demo: Demo) -> None:
    assert (
        int(paste(f"psql -XAtc 'SELECT count(*) FROM reconciliation_logs' '{demo.address('PostgreSQL')}'"))
        > 0
    )


async def test_the_database_is_the_one_that_the_dashboard_shows(demo: Demo) -> None:
    connection = await asyncpg.connect(demo.address("PostgreSQL"))
    try:
        assert await connection.fetchval("SELECT count(*) FROM reconciliation_logs") > 0
    finally:
        await connection.close()
    async with httpx.AsyncClient(base_url=demo.address("Dashboard")) as client:
        assert (await client.get("/")).status_code == 200


async def test_its_server_has_no_more_rights_than_it_needs(demo: Demo) -> None:
    connection = await asyncpg.connect(demo.address("PostgreSQL"))
    try:
        rows = await connection.fetch(
            "SELECT usename::text AS name FROM pg_stat_activity"
            " WHERE application_name IN ('guardwire', 'guardwire listener')"
        )
    finally:
        await connection.close()
    assert {row["name"] for row in rows} == {"guardwire_server_demo"}


def test_it_listens_on_this_machine_alone(demo: Demo) -> None:
    port = int(demo.address("Dashboard").rstrip("/").rpartition(":")[2])
    local = f":{port:04X}"
    listening = [
        row.split()[1]
        for table in ("tcp", "tcp6")
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if row.split()[1].endswith(local) and row.split()[3] == "0A"
    ]
    assert listening == [f"0100007F{local}"]


def test_ctrl_c_leaves_no_process_and_no_lock_and_the_data(data_folder: Path) -> None:
    with running(GUARDWIRE_DATA=data_folder) as demo:
        processes = demo.processes()
        assert (data_folder / "lock").exists()
        demo.process.send_signal(signal.SIGINT)
        demo.process.wait(15)
        assert wait_until_ended(processes) == set()
    assert not (data_folder / "lock").exists()
    assert list(data_folder.glob("postgresql-*/PG_VERSION"))


async def test_rows_of_ones_own_do_not_keep_the_demo_from_starting_again(data_folder: Path) -> None:
    with running(GUARDWIRE_DATA=data_folder) as demo:
        connection = await asyncpg.connect(demo.address("PostgreSQL"))
        await connection.execute(
            "INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type)"
            " VALUES (gen_random_uuid(), 1, 'sync')"
        )
        await connection.close()
        demo.process.send_signal(signal.SIGINT)
        demo.process.wait(15)
    with running(GUARDWIRE_DATA=data_folder):
        pass


def test_kill_9_leaves_no_orphan(data_folder: Path) -> None:
    with running(GUARDWIRE_DATA=data_folder) as demo:
        processes = demo.processes()
        demo.process.kill()
        assert wait_until_ended(processes) == set()


def test_kill_9_of_the_make_that_started_it_leaves_no_orphan(data_folder: Path) -> None:
    make = ("/bin/sh", "-c", '"$@"; exit $?', "make")
    with running(*make, GUARDWIRE_DATA=data_folder, MAKELEVEL="1") as demo:
        processes = demo.processes()
        demo.process.kill()
        assert wait_until_ended(processes) == set()


def test_a_port_that_is_taken_is_one_sentence_before_anything_is_started(
    guardwire: Guardwire, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = guardwire("demo", GUARDWIRE_PORT=str(port), GUARDWIRE_DATA=tmp_path / "data")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Port {port} of 127.0.0.1 is taken" in done.stderr
    assert f"GUARDWIRE_PORT={port + 1} make demo" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_a_second_demo_on_the_same_data_is_one_sentence(guardwire: Guardwire, demo: Demo) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = guardwire("demo", GUARDWIRE_PORT=str(port), GUARDWIRE_DATA=demo.address("Data"))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"in use by process {demo.process.pid}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


async def test_a_given_database_with_somebodys_rows_is_left_alone(
    guardwire: Guardwire, migrated_url: str, redis_url: str, tmp_path: Path
) -> None:
    connection = await asyncpg.connect(migrated_url)
    try:
        await connection.execute(
            "INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type)"
            " VALUES (gen_random_uuid(), 1, 'sync')"
        )
        done = guardwire(
            "demo",
            GUARDWIRE_PORT="0",
            DATABASE_URL=migrated_url,
            REDIS_URL=redis_url,
            GUARDWIRE_DATA=tmp_path,
        )
        assert await connection.fetchval("SELECT count(*) FROM reconciliation_logs") == 1
    finally:
        await connection.close()
    assert (done.returncode, done.stdout) == (2, "")
    assert "rows that are not the demo's" in done.stderr

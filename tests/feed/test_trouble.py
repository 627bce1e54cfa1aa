"""Reasons for waiting: in words, once, and then seldom; on a whole node in its log and in `/readyz`."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from queries.migrations.run import migrate
from realtime.embedded.folder import free_port
from realtime.feed import rights
from realtime.feed.rights import lacking_rights, missing_parts
from realtime.feed.self_test import SelfTest
from realtime.feed.trouble import Trouble, reason_of
from realtime.metrics import METRICS
from tests.end_to_end.node import Node, node
from tests.queries.database_writer import connected

REFUSED = OSError(111, "Connect call failed")


def lines(caplog: pytest.LogCaptureFixture, level: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == level]


async def failure(database_url: str, statement: str) -> Exception:
    """The error of a statement, as the driver raises it."""
    async with connected(database_url) as connection:
        with pytest.raises(asyncpg.PostgresError) as failed:
            await connection.fetch(statement)
        error: Exception = failed.value
    return error


# Reasons in words.


async def test_a_missing_table_or_right_is_named_and_a_value_is_not(database_url: str) -> None:
    async def reason(statement: str) -> str:
        return reason_of(await failure(database_url, statement))

    assert await reason("SELECT * FROM guardwire.accounts") == 'relation "guardwire.accounts" does not exist'
    assert "function no_such() does not exist" in await reason("SELECT no_such()")
    assert await reason("SELECT 'hidden-word'::uuid") == "InvalidTextRepresentationError (SQLSTATE 22P02)"
    assert "hidden-word" not in await reason("SELECT 'hidden-word'::uuid")


async def test_an_error_that_other_libraries_wrapped_has_the_same_reason(database_url: str) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(database_url), hide_parameters=True
    )
    try:
        async with engine.connect() as connection:
            with pytest.raises(Exception, match="does not exist") as failed:
                await connection.execute(text("SELECT * FROM guardwire.accounts"))
    finally:
        await engine.dispose()
    assert reason_of(failed.value) == 'relation "guardwire.accounts" does not exist'


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("//[^@]*@", "//guardwire:wrong@"), "PostgreSQL refuses the password of this login"),
        (("/guardwire_test", "/guardwire_none"), "there is no database of this name"),
        ((r":\d+/", ":1/"), "PostgreSQL is out of reach"),
    ],
)
async def test_a_server_that_lets_nobody_in_has_a_reason(
    database_url: str, change: tuple[str, str], reason: str
) -> None:
    with pytest.raises((OSError, asyncpg.PostgresError)) as failed:
        await asyncpg.connect(re.sub(*change, database_url))
    assert reason_of(failed.value).startswith(reason)


# Reports once, and then seldom.


def test_parts_that_wait_for_one_reason_share_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    trouble = Trouble()
    for _ in range(100):
        for part in ("the listener", "the applier"):
            trouble.report(part, REFUSED)
    reason = "PostgreSQL is out of reach (Connect call failed)"
    assert lines(caplog, "WARNING") == [f"the listener waits for the database: {reason}"]
    assert lines(caplog, "INFO") == [f"the applier waits for the database: {reason}"]
    assert trouble.reason == reason
    trouble.end("the listener")
    assert trouble.reason == reason
    trouble.end("the applier")
    reasons = [trouble.reason]
    assert reasons == [None]
    assert lines(caplog, "INFO")[1:] == [f"nothing waits for the database any more because of this: {reason}"]
    trouble.report("the applier", REFUSED)
    assert len(lines(caplog, "WARNING")) == 2, "another outage is another warning"


def test_a_reason_that_lasts_is_repeated_with_all_that_wait(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble(remind_seconds=0)
    for part in ("the listener", "the applier", "the listener"):
        trouble.report(part, REFUSED)
    assert lines(caplog, "WARNING")[1] == (
        "still waiting for the database: PostgreSQL is out of reach (Connect call failed) (the listener, the applier)"
    )


async def test_what_follows_from_a_missing_schema_has_no_lines_of_its_own(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    trouble = Trouble()
    trouble.is_starting = True
    assert "does not exist" in trouble.report("the listener", await failure(database_url, "SELECT FROM gone"))
    assert trouble.reason is None
    trouble.report("the listener", REFUSED)
    assert len(lines(caplog, "WARNING")) == 1


# Rights.


@asynccontextmanager
async def node_login(database_url: str) -> AsyncIterator[tuple[Any, str]]:
    """The owner's connection, and the URL of a login that is a member of guardwire_server."""
    await migrate(database_url, roles=True)
    login = f"node_{secrets.token_hex(4)}"
    parts = urlsplit(database_url)
    url = parts._replace(netloc=f"{login}:secret@{parts.netloc.rpartition('@')[2]}").geturl()
    async with connected(database_url) as owner:
        await owner.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'secret' IN ROLE guardwire_server")
        try:
            yield owner, url
        finally:
            await owner.execute(f"DROP ROLE {login}")


async def test_every_right_that_a_node_needs_is_looked_at(migrated_url: str) -> None:
    async with node_login(migrated_url) as (owner, url), connected(url) as login:
        assert await lacking_rights(login) is None
        assert await missing_parts(login) is None
        await owner.execute("REVOKE SELECT ON guardwire.positions, fx_rates FROM guardwire_server")
        await owner.execute("REVOKE EXECUTE ON FUNCTION guardwire.housekeep() FROM guardwire_server")
        assert await lacking_rights(login) == (
            "this login lacks rights (EXECUTE guardwire.housekeep, SELECT guardwire.positions, SELECT public.fx_rates);"
            " GRANT guardwire_server TO it (`guardwire migrate --roles` makes that role)"
        )
        await owner.execute("DROP TABLE guardwire.events CASCADE")
        missing = await missing_parts(login)
        assert missing is not None
        assert missing.startswith("guardwire.events missing; ")


async def test_the_tables_that_are_looked_for_are_there_and_no_node_reads_another(migrated_url: str) -> None:
    async with connected(migrated_url) as connection:
        assert await missing_parts(connection) is None
        there = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'guardwire'")
    looked_for = {name.partition(".")[2] for names in rights._TABLES.values() for name in names}
    # Only the applier's functions and `guardwire migrate` read these.
    assert {row[0] for row in there} - looked_for == {
        *("attendance_clock", "code", "contracts", "equity_flows", "ignored_rows", "log_users"),
    }


# A whole node.


async def until_ready_says(server: Node, words: str) -> str:
    async with asyncio.timeout(15):
        while words not in (found := (await server.client.get("/readyz")).text):
            await asyncio.sleep(0.02)
    return found


async def test_a_node_without_its_database_says_so_in_one_warning(
    migrated_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    away = re.sub(r":\d+/", f":{free_port()}/", migrated_url)
    async with node(away) as server:
        said = await until_ready_says(server, "out of reach")
        assert said.startswith("starting: PostgreSQL is out of reach (")
        await asyncio.sleep(1)
        waiting = [line for line in lines(caplog, "WARNING") if "waits for the database" in line]
        assert len(waiting) == 1, waiting


async def test_a_node_whose_login_lacks_a_right_names_it_and_goes_on_when_it_is_given(
    migrated_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with node_login(migrated_url) as (owner, url):
        await owner.execute("REVOKE SELECT ON guardwire.epoch FROM guardwire_server")
        async with node(url) as server:
            said = await until_ready_says(server, "lacks rights")
            assert said.startswith("starting: this login lacks rights (SELECT guardwire.epoch)")
            assert METRICS.self_test_failed.get("rights") == 1
            await asyncio.sleep(1)
            about = [
                record
                for record in caplog.records
                if "guardwire" in record.getMessage() or "epoch" in record.getMessage()
            ]
            assert [each.levelname for each in about if each.levelno >= logging.WARNING] == ["CRITICAL"]
            await owner.execute("GRANT SELECT ON guardwire.epoch TO guardwire_server")
            await until_ready_says(server, "ready\n")


async def test_a_refusal_that_lasts_is_repeated(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(database_url))
    test = SelfTest(engine=engine, redis=None, hearing=lambda: True, listens_directly=True, remind_seconds=0)
    for _ in range(2):
        assert "has not been migrated" in str(await test._refusal())
    await engine.dispose()
    assert lines(caplog, "CRITICAL") == [
        "not ready, and looking again every 2 s: the database has not been migrated; `guardwire migrate` does that"
    ]
    assert lines(caplog, "WARNING")[-1].startswith("still not ready: the database has not been migrated")


async def test_a_running_node_that_loses_a_right_is_blind_and_says_which(migrated_url: str) -> None:
    async with node_login(migrated_url) as (owner, url), node(url) as server:
        await until_ready_says(server, "ready\n")
        await owner.execute(
            "REVOKE EXECUTE ON FUNCTION guardwire.waiting_accounts(uuid[], pg_snapshot) FROM guardwire_server"
        )
        said = await until_ready_says(server, "blind")
        assert said == "blind: permission denied for function waiting_accounts\n"

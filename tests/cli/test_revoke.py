"""`guardwire revoke`, as an operator runs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.cli.conftest import Guardwire

USER = "0e1550bf-b861-4cc3-875b-4b54a426f907"


async def rows(database_url: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(database_url)
    try:
        found = await connection.fetch(
            "SELECT user_id, token_id, locked_until, undone_at IS NOT NULL, reason"
            " FROM guardwire.revocations ORDER BY revocation_id"
        )
        return [tuple(row) for row in found]
    finally:
        await connection.close()


async def test_a_user_is_revoked_and_it_says_whom_and_until_when(
    guardwire: Guardwire, migrated_url: str
) -> None:
    user = uuid4()
    done = guardwire("revoke", "--user", str(user), "--reason", "left the desk", DATABASE_URL=migrated_url)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"user {user}: tokens issued until {datetime.now(UTC):%Y-}" in done.stderr
    assert "--until" in done.stderr
    assert await rows(migrated_url) == [(user, None, None, False, "left the desk")]


async def test_a_token_is_revoked_until_it_expires(guardwire: Guardwire, migrated_url: str) -> None:
    done = guardwire("revoke", "--token-id", "login-7", DATABASE_URL=migrated_url)
    assert done.returncode == 0, done.stderr
    assert "token login-7: refused until it expires" in done.stderr
    assert await rows(migrated_url) == [(None, "login-7", None, False, "")]


@pytest.mark.parametrize(
    ("written", "shown_form"),
    [
        ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S UTC"),
        ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:00 UTC"),
        ("%Y-%m-%dT%H:%M:%S+00:00", "%Y-%m-%d %H:%M:%S UTC"),
    ],
)
async def test_a_user_is_locked_out_until_a_time(
    guardwire: Guardwire, migrated_url: str, written: str, shown_form: str
) -> None:
    user, until = uuid4(), datetime.now(UTC) + timedelta(days=3)
    done = guardwire(
        "revoke", "--user", str(user), "--until", until.strftime(written), DATABASE_URL=migrated_url
    )
    assert done.returncode == 0, done.stderr
    assert f"user {user}: locked out until {until.strftime(shown_form)}" in done.stderr
    ((_, _, locked_until, _, _),) = await rows(migrated_url)
    assert abs(locked_until - until) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "either a user or a token"),
        (("--user", USER, "--token-id", "a"), "either a user or a token"),
        (("--undo",), "either a user or a token"),
        (("--user", USER, "--until", "tomorrow"), "2026-12-24T18:00Z"),
        (("--user", USER, "--until", "2020-01-01"), "a time to come"),
        (("--user", USER, "--until", "9999-01-01"), "a time to come"),
        (("--token-id", "a", "--until", "2099-01-01"), "Only a user"),
        (("--list", "--token-id", "a"), "--list takes no other option"),
        (("--undo", "--token-id", "a", "--reason", "b"), "--undo takes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_options_that_contradict_each_other_are_refused(
    guardwire: Guardwire, migrated_url: str, arguments: tuple[str, ...], problem: str
) -> None:
    refused = guardwire("revoke", *arguments, DATABASE_URL=migrated_url)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert problem in refused.stderr
    assert await rows(migrated_url) == []


async def test_revocations_are_listed_and_undone(guardwire: Guardwire, migrated_url: str) -> None:
    user, other = str(uuid4()), str(uuid4())

    def run(*words: str) -> tuple[int, str, str]:
        done = guardwire("revoke", *words, DATABASE_URL=migrated_url)
        return done.returncode, done.stdout, done.stderr

    _, nothing, progress = run("--list")
    assert (nothing, "no revocation is in force" in progress) == ("", True)
    run("--user", user)
    run("--user", user, "--until", "2030-01-01", "--reason", "left the desk")
    run("--user", other)
    run("--token-id", "login-7")
    token, others, lock, before = run("--list")[1].splitlines()
    assert token.endswith("token login-7: refused until it expires")
    assert f"user {other}: tokens issued until" in others
    assert lock.endswith(f"user {user}: locked out until 2030-01-01 00:00:00 UTC  (left the desk)")
    assert f"user {user}: tokens issued until" in before

    code, _, progress = run("--undo", "--user", user)
    assert (code, f"user {user}: 2 revocations undone" in progress) == (0, True)
    assert run("--undo", "--token-id", "login-7")[0] == 0
    assert [line.split("  ")[1] for line in run("--list")[1].splitlines()] == [others.split("  ")[1]]
    code, _, error = run("--undo", "--user", user)
    assert (code, f"There is no revocation of user {user}" in error) == (1, True)

"""Roles made by a login that is no superuser, and rights of roles that an upgrade finds; on servers without any role.

From PostgreSQL 16 on, a login that makes a role may grant it, but neither has its rights nor may become it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest

from queries.migrations.run import migrate
from realtime.embedded import EmbeddedServers
from realtime.errors import EmbeddedServerError, MigrationError
from realtime.feed.rights import lacking_rights, missing_parts
from tests.inbox import apply_inbox
from tests.queries.database_writer import DatabaseWriter, connected
from tests.queries.test_releases import RELEASES

_ROLES: Final = "guardwire_inbox, guardwire_platform, guardwire_server"
_MAKE_MIGRATOR: Final = """
CREATE ROLE migrator LOGIN PASSWORD 'secret' CREATEROLE;
GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() TO migrator;
"""
_OWNER: Final = (
    "SELECT p.proowner::regrole::text FROM pg_proc AS p WHERE p.oid = 'guardwire.copy_row'::regproc"
)


@pytest.fixture(scope="module", params=["installed", "wheels"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a superuser on a server of its own: the installed PostgreSQL, and the newest one that is packaged."""
    try:
        # No test here uses Redis, so none is started.
        servers = EmbeddedServers.start(source=request.param, redis_url="redis://127.0.0.1:1")
    except EmbeddedServerError as error:
        pytest.skip(f"no such server here: {error}")
    with servers:
        yield servers.database_url


@pytest.fixture
async def superuser(server: str) -> AsyncIterator[Any]:
    """A superuser's connection to a server without roles of ours; what a test makes is dropped."""
    async with connected(server) as connection:
        await connection.execute(_MAKE_MIGRATOR)
        yield connection
        for name in await connection.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'platform%'"):
            await connection.execute(f"DROP DATABASE {name[0]} WITH (FORCE)")
        roles = await connection.fetch(
            "SELECT rolname FROM pg_roles WHERE rolname ~ '^(guardwire_|migrator|node)'"
        )
        for role in sorted((each[0] for each in roles), reverse=True):
            await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def platform(superuser: Any, server: str, login: str = "") -> str:
    """The URL of a new database, owned by the login that it names; of the superuser without one."""
    name = f"platform_{uuid4().hex}"
    await superuser.execute(f"CREATE DATABASE {name}" + f" OWNER {login}" * bool(login))
    return as_login(urlunsplit(urlsplit(server)._replace(path=f"/{name}")), login)


def as_login(url: str, login: str) -> str:
    """The URL for another login; the same without one."""
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{login}:secret@{address}")) if login else url


@pytest.mark.parametrize("made_by", ["itself", "a superuser"])
async def test_a_login_that_may_make_roles_migrates_with_them_and_again(
    superuser: Any, server: str, made_by: str
) -> None:
    if made_by == "a superuser":
        for role in _ROLES.split(", "):
            await superuser.execute(f"CREATE ROLE {role} NOLOGIN")
        await superuser.execute("GRANT guardwire_inbox TO migrator; ALTER ROLE migrator NOCREATEROLE")
    url = await platform(superuser, server, "migrator")
    await migrate(url, roles=True)
    async with connected(url) as migrator:
        assert await migrator.fetchval(_OWNER) == "guardwire_inbox"
        for roles in (True, False):
            await migrator.execute("UPDATE guardwire.code SET digest = 'of another release'")
            await migrate(url, roles=roles)
        if made_by == "itself":
            await migrator.execute("CREATE ROLE node LOGIN PASSWORD 'secret'; GRANT guardwire_server TO node")
        else:
            await superuser.execute("CREATE ROLE node LOGIN PASSWORD 'secret' IN ROLE guardwire_server")
        writer = DatabaseWriter(migrator, applies=False)
        await writer.sync()
        async with connected(as_login(url, "node")) as node:
            assert await lacking_rights(node) is None
            await apply_inbox(node)
            assert await node.fetchval("SELECT count(*) FROM guardwire.positions") == 1


async def test_a_login_that_may_make_no_roles_is_told_so(superuser: Any, server: str) -> None:
    await superuser.execute("ALTER ROLE migrator NOCREATEROLE")
    url = await platform(superuser, server, "migrator")
    with pytest.raises(
        MigrationError,
        match=r"this login may not migrate: .*permission denied to create role.*CREATE ROLE guardwire_server",
    ):
        await migrate(url, roles=True)


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.stem)
async def test_an_upgrade_without_roles_gives_the_roles_of_before_their_new_rights(
    superuser: Any, server: str, release: Any
) -> None:
    """0.1.0 had no guardwire_inbox, and the functions that its role could call are replaced by others."""
    await superuser.execute("CREATE ROLE guardwire_server; CREATE ROLE guardwire_platform")
    await superuser.execute("CREATE ROLE node LOGIN PASSWORD 'secret' IN ROLE guardwire_server")
    url = await platform(superuser, server)
    async with connected(url) as owner:
        await owner.execute(release.read_text())
        await owner.execute(
            "SET search_path = public; GRANT USAGE ON SCHEMA guardwire TO guardwire_server;"
            "GRANT SELECT ON ALL TABLES IN SCHEMA guardwire TO guardwire_server"
        )
    await migrate(url)
    async with connected(as_login(url, "node")) as node:
        assert await missing_parts(node) is None
        assert await lacking_rights(node) is None
    assert await superuser.fetchval("SELECT to_regrole('guardwire_inbox')") is None


async def test_a_migration_without_roles_leaves_everybody_else_without_a_right(
    superuser: Any, server: str
) -> None:
    url = await platform(superuser, server, "migrator")
    await migrate(url)
    async with connected(url) as migrator:
        callable_by_all = await migrator.fetch("""
            SELECT p.oid::regprocedure::text FROM pg_proc AS p
            WHERE p.pronamespace = 'guardwire'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE')""")
        assert callable_by_all == []
        writer = DatabaseWriter(migrator)
        await writer.sync()
        assert len(await writer.book()) == 1


async def test_a_cast_of_somebody_else_is_refused_where_the_copy_would_run_it_as_the_owner(
    superuser: Any, server: str
) -> None:
    """The type of a column of a column, whose owner is neither a superuser nor the login that migrates."""
    url = await platform(superuser, server, "migrator")
    await migrate(url)
    await superuser.execute("CREATE ROLE node LOGIN PASSWORD 'secret'")
    async with (
        connected(url) as migrator,
        connected(as_login(server, ""), database=urlsplit(url).path[1:]) as owner,
    ):
        await owner.execute("CREATE SCHEMA own AUTHORIZATION node; GRANT USAGE ON SCHEMA own TO PUBLIC")
        async with connected(as_login(url, "node")) as node:
            await node.execute(
                "CREATE TYPE own.mood AS ENUM ('good'); CREATE TYPE own.note AS (moods own.mood[]);"
                "CREATE FUNCTION own.tell(own.mood) RETURNS json LANGUAGE sql AS $$ SELECT '1'::json $$;"
                "CREATE CAST (own.mood AS json) WITH FUNCTION own.tell(own.mood)"
            )
        await owner.execute("ALTER TABLE public.reconciliation_logs ADD COLUMN note own.note")
        sentence = "would run with the rights of migrator; run `guardwire migrate --roles`"
        with pytest.raises(MigrationError, match=sentence):
            await migrate(url)
        await migrate(url, roles=True)
        await migrate(url)
        assert await migrator.fetch("SELECT guardwire.check_surroundings()") == []

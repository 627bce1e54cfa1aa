"""A database that an earlier release migrated gets this release's walls, and its secrets anew, once."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from queries.migrations.run import migrate, rotate_channel
from realtime.audit.capture import check_capture
from realtime.errors import MigrationError
from tests.queries.ledger import Ledger

#: Undoes what revisions 0003 and 0004 bring, as far as a database can tell.
BEFORE_0003 = """
UPDATE guardwire.migrations SET version_num = '0002';
DROP TRIGGER capture ON guardwire.pending;
DROP INDEX guardwire.pending_by_transaction;
ALTER TABLE guardwire.pending DROP COLUMN xid, DROP COLUMN nth, DROP COLUMN token, DROP COLUMN wakes;
INSERT INTO guardwire.pending DEFAULT VALUES;
CREATE CONSTRAINT TRIGGER capture AFTER INSERT ON guardwire.pending DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION guardwire.capture_commit();
CREATE TABLE guardwire.capture_spill (xid xid8, nth bigint, tokens text);
CREATE FUNCTION guardwire.listed() RETURNS text LANGUAGE sql STABLE AS 'SELECT ''''';
ALTER TABLE guardwire.configuration DROP COLUMN told_secret;
ALTER TABLE guardwire.capture_notes DROP COLUMN user_id, DROP COLUMN concerns_all;
DROP TABLE guardwire.history_readers;
ALTER TABLE guardwire.revocations DROP COLUMN locked_until, DROP COLUMN undone_at;
ALTER FUNCTION guardwire.touch_log() RESET search_path;
ALTER FUNCTION guardwire.capture_commit() RESET trace_notify;
"""
_SECRETS = "SELECT told_channel, told_secret FROM guardwire.configuration"
_WALLS = """
SELECT p.oid::regprocedure::text AS name, p.proconfig AS config FROM pg_proc AS p
WHERE p.pronamespace = 'guardwire'::regnamespace ORDER BY 1
"""


async def columns(connection: Any) -> set[tuple[str, ...]]:
    """Every column of schema guardwire."""
    return {
        tuple(row)
        for row in await connection.fetch(
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
            " WHERE table_schema = 'guardwire'"
        )
    }


@pytest.fixture
async def user(migrated_url: str) -> UUID:
    return uuid4()


async def test_an_earlier_database_becomes_as_a_new_one_and_its_secrets_others(
    migrated_url: str, user: UUID
) -> None:
    connection = await asyncpg.connect(migrated_url)
    try:
        expected = [tuple(row) for row in await connection.fetch(_WALLS)], await columns(connection)
        await migrate(migrated_url, notify=False)
        channel = await connection.fetchval("SELECT told_channel FROM guardwire.configuration")
        await connection.execute(BEFORE_0003)
        await migrate(migrated_url)
        found = [tuple(row) for row in await connection.fetch(_WALLS)], await columns(connection)
        assert found == expected
        after = await connection.fetchrow(_SECRETS)
        assert after["told_channel"] != channel
        assert len(after["told_secret"]) == 32
        assert await connection.fetchval("SELECT guardwire.notifies()") is False
        assert await check_capture(connection) == []
        await Ledger(connection).log(user)
        assert list(await Ledger(connection).book(user)) == ["1"]
        await migrate(migrated_url)
        assert await connection.fetchrow(_SECRETS) == after
    finally:
        await connection.close()


async def test_only_the_owner_rotates_the_channel(migrated_url: str) -> None:
    connection = await asyncpg.connect(migrated_url)
    role = f"stranger_{uuid4().hex}"
    try:
        before = await connection.fetchrow(_SECRETS)
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'a'")
        address = migrated_url.rpartition("@")[2]
        with pytest.raises(MigrationError, match="this login may not rotate the channel"):
            await rotate_channel(f"postgresql://{role}:a@{address}")
        assert await connection.fetchrow(_SECRETS) == before
        await rotate_channel(migrated_url)
        assert not set(await connection.fetchrow(_SECRETS)) & set(before)
    finally:
        await connection.execute(f"DROP ROLE {role}")
        await connection.close()


async def test_the_roles_take_temporary_objects_from_the_public_and_say_so(migrated_url: str) -> None:
    connection = await asyncpg.connect(migrated_url)
    may = "SELECT has_database_privilege('guardwire_platform', current_database(), 'TEMPORARY')"
    said: list[str] = []
    try:
        await migrate(migrated_url, roles=True, progress=said.append)
        assert await connection.fetchval(may) is False
        await migrate(migrated_url, roles=True, progress=said.append)
    finally:
        await connection.close()
    temporary = [sentence for sentence in said if sentence.startswith("temporary tables")]
    assert ["PUBLIC may not make them any more" in sentence for sentence in temporary] == [True, False]
    assert "only logins that were granted TEMPORARY" in temporary[1]


async def test_an_owner_of_the_tables_alone_is_told_what_to_revoke(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    role = f"owner_{uuid4().hex}"
    said: list[str] = []
    try:
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'a' CREATEROLE")
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(
            f'GRANT CREATE ON DATABASE "{name}" TO {role}; GRANT CREATE ON SCHEMA public TO {role};'
            f"GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() TO {role}"
        )
        await migrate(
            f"postgresql://{role}:a@{database_url.rpartition('@')[2]}", roles=True, progress=said.append
        )
        assert [each for each in said if "REVOKE TEMPORARY ON DATABASE" in each]
    finally:
        await connection.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
        await connection.close()

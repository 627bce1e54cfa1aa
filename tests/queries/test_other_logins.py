"""`guardwire migrate --roles` and `guardwire rotate-channel`, with other logins of the database at work."""

from __future__ import annotations

from typing import Final
from uuid import uuid4

import asyncpg
import pytest

from queries.migrations.run import migrate, rotate_channel
from realtime.errors import MigrationError

_SECRETS: Final = "SELECT delta_channel, delta_secret FROM guardwire.configuration"


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

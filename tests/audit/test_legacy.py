"""An older table with other types of columns is audited unchanged, and with the rights of a server alone."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit, urlunsplit

from queries.capture import rebuild
from queries.migrations.run import migrate
from realtime.audit.capture import check_capture
from tests.audit.auditing import audited, differences
from tests.inbox import apply_inbox
from tests.queries import legacy
from tests.queries.database_writer import DatabaseWriter, connected


async def test_the_history_of_a_legacy_table_is_found_to_be_what_was_read_of_it(database_url: str) -> None:
    async with connected(database_url) as connection:
        await legacy.make(connection, rows_per_user=120)
        await migrate(database_url)
        users = [row["user_id"] for row in await connection.fetch("SELECT user_id FROM guardwire.accounts")]
        assert len(users) == legacy.USERS
        for user in users:
            verdict = await audited(connection, user)
            assert verdict.rows == 120
            assert verdict.differences == []
            assert verdict.doubts == []
        await connection.execute(legacy.SYNC, 1, 3, 1.2)
        user = await connection.fetchval("SELECT md5('1')::uuid")
        assert await differences(connection, user) == []
        assert await apply_inbox(connection) == 1
        assert await differences(connection, user) == []
        await connection.execute("ALTER TABLE reconciliation_logs DISABLE TRIGGER guardwire_copy")
        await connection.execute(legacy.SYNC, 1, 3, 1.3)
        found = await differences(connection, user)
        assert any("positions/open/3/current_price: should be 1.3" in line for line in found), found


async def test_all_digits_of_a_column_count(database_url: str) -> None:
    """A cast of real to numeric keeps six digits, one of double precision fifteen."""
    async with connected(database_url) as connection:
        await legacy.make(connection, rows_per_user=1)
        await migrate(database_url)
        user = await connection.fetchval("SELECT md5('1')::uuid")
        await connection.execute(
            "INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, direction, volume, entry_price,"
            " current_price, matched, event_type, created_at)"
            " VALUES ($1, 7, 'EURUSD', 0, 0.1, 1234567.123456789, 1955.7512, 1, 'sync', now() AT TIME ZONE 'UTC')",
            str(user),
        )
        assert await apply_inbox(connection) == 1
        assert await differences(connection, user) == []
        await rebuild(connection, user)
        assert await differences(connection, user) == []


async def test_an_audit_needs_no_more_rights_than_a_server_has(migrated_url: str) -> None:
    await migrate(migrated_url, roles=True)
    name = f"server_{secrets.token_hex(4)}"
    parts = urlsplit(migrated_url)
    address = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{name}:secret@{address}"))
    async with connected(migrated_url) as owner:
        await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret' IN ROLE guardwire_server")
        try:
            writer = DatabaseWriter(owner)
            await writer.sync()
            async with connected(url) as server:
                assert await check_capture(server) == []
                assert await differences(server, writer.user_id) == []
        finally:
            await owner.execute(f"DROP ROLE {name}")

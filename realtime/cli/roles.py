"""A login of least privilege: the demo's server has no more rights than one in production needs."""

from __future__ import annotations

import secrets
from typing import Final
from urllib.parse import urlsplit, urlunsplit

_LOGIN: Final = "guardwire_server_demo"
_MAKE: Final = """
DO $$ BEGIN
    CREATE ROLE {login} LOGIN IN ROLE guardwire_server;
EXCEPTION WHEN duplicate_object THEN
    NULL;
END $$;
ALTER ROLE {login} PASSWORD '{password}';
"""


async def server_login(database_url: str) -> str:
    """URL of the same database for a server that is a member of guardwire_server; its password is new each
    time. ``database_url`` is that of whoever may make logins, and the role is there (`migrate(roles=True)`).
    """
    import asyncpg

    password = secrets.token_hex(16)
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_MAKE.format(login=_LOGIN, password=password))
    finally:
        await connection.close()
    parts = urlsplit(database_url)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{_LOGIN}:{password}@{address}"))

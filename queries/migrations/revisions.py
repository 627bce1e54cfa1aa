"""The revisions of the schema that this release knows, oldest first; it reads the shape of the last one."""

from __future__ import annotations

from typing import Any, Final

from queries.migrations.script import list_sql

#: A revision is a number of `tables/NNNN_*.sql`.
REVISIONS: Final = tuple(sorted({name[:4] for name in list_sql("tables")}))

_REVISION: Final = "SELECT version_num FROM guardwire.migrations"
_IS_THERE: Final = "SELECT to_regclass('guardwire.migrations') IS NOT NULL"


async def revision_of(connection: Any) -> str | None:
    """The revision of the database behind ``connection`` (asyncpg's); None when it was never migrated."""
    if not await connection.fetchval(_IS_THERE):
        return None
    revision: str | None = await connection.fetchval(_REVISION)
    return revision

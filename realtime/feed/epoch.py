"""The epoch numbers the histories of the database. It is raised when commits that clients saw may be lost."""

from __future__ import annotations

import logging
from typing import Any, Final

from queries.live_query import database_epoch
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

# Compare-and-set, so that several nodes with the same observation raise the epoch once. The epoch never falls. The
# timeline is that of the WAL file that is written now: after a promotion pg_control_checkpoint() shows the old timeline
# until the next checkpoint, which may take minutes.
_RAISE: Final = """
UPDATE guardwire.epoch
SET epoch = greatest(epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint),
    system_identifier = now.system_identifier,
    timeline = now.timeline
FROM (SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
             ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint::text AS timeline) AS now
WHERE NOT pg_is_in_recovery() AND {condition}
RETURNING epoch
"""
_RAISE_IF_SEEN: Final = _RAISE.format(condition="epoch.epoch = $1")
_RAISE_IF_ANOTHER_SERVER: Final = _RAISE.format(
    condition="(epoch.system_identifier, epoch.timeline)"
    " IS DISTINCT FROM (now.system_identifier, now.timeline)"
)


async def raise_epoch(driver: Any, *, seen: int) -> None:
    """Raise the epoch, unless another node raised it since ``seen`` (an epoch as clients see it)."""
    if await driver.fetchval(_RAISE_IF_SEEN, database_epoch(seen), timeout=5.0) is not None:
        METRICS.epoch_raises.add()
        log.error("delivered revisions are gone from the database: a new epoch begins, clients get snapshots")


async def check_server(driver: Any) -> None:
    """Raise the epoch when this server or its timeline is not the one that wrote the epoch last."""
    if await driver.fetchval(_RAISE_IF_ANOTHER_SERVER, timeout=5.0) is not None:
        METRICS.epoch_raises.add()
        log.warning("the database is another server or timeline than before: a new epoch begins")

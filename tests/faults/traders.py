"""Writers of every kind at once, on accounts without clients; each does nothing but what a platform may do."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

from realtime.audit.history import FxRate, Instrument, Limits
from tests.end_to_end import tables
from tests.end_to_end.marks import Marks, Owner

_PAUSE_SECONDS: Final = 0.2
_OPEN_SECONDS: Final = 20.0
_PREPARED_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.1
_COPIED_ROWS: Final = (50, 1500)
_COPY_EVERY_SECONDS: Final = 3.0
#: The number of its newest rows that a writer may alter in place.
_REMEMBERED: Final = 500
_DESKS: Final = 3

# A partitioned log has one more column, which belongs to its key.
_PARTITION: Final = f"""
DROP SCHEMA guardwire CASCADE;
ALTER TABLE reconciliation_logs RENAME TO whole;
CREATE TABLE reconciliation_logs (
    LIKE whole INCLUDING DEFAULTS, desk integer NOT NULL DEFAULT 0, PRIMARY KEY (id, desk)
) PARTITION BY LIST (desk);
{"".join(f"CREATE TABLE desk_{n} PARTITION OF reconciliation_logs FOR VALUES IN ({n});" for n in range(_DESKS))}
CREATE INDEX ON reconciliation_logs (user_id, created_at);
DROP TABLE whole;
"""


async def partition_log(connection: Any) -> None:
    """Replace the log of a migrated database by a partitioned one, and remove Guardwire again."""
    await connection.execute(_PARTITION)


@dataclass
class Traders:
    """Write rows of ``owners`` until `stop`; ``counted`` has the number of transactions of each kind.

    A transaction may fail for one reason only: PostgreSQL could not serialize it. Every other error of a writer is a
    line in ``failures``.
    """

    database_url: str
    owners: Sequence[Owner]
    marks: Marks
    random: Random
    counted: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _ids: list[str] = field(default_factory=list)
    _prepared: list[tuple[str, float]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def run(self, stop: asyncio.Event, *, with_prepared: bool) -> None:
        """Write until ``stop`` is set; afterwards no transaction is open or prepared."""
        kinds = [
            self._loop, self._serializable, self._repeatable_read, self._savepoints, self._copy, self._move,
            self._alter, self._reference, partial_open(self._open, stop), partial_open(self._read, stop),
        ]  # fmt: skip
        if with_prepared:
            kinds += [self._prepare, self._finish_prepared]
        await asyncio.gather(*(self._repeat(kind, stop) for kind in kinds))
        connection = await asyncpg.connect(self.database_url)
        for gid, _ in self._prepared:
            await connection.execute(f"COMMIT PREPARED '{gid}'")
        self._prepared.clear()
        await connection.close()

    async def _repeat(self, write: Callable[[Any], Awaitable[str]], stop: asyncio.Event) -> None:
        connection = await asyncpg.connect(self.database_url)
        try:
            while not stop.is_set():
                try:
                    self.counted[await write(connection)] += 1
                except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
                    self.counted["not serialized"] += 1
                except asyncpg.PostgresError as error:
                    self.failures.append(f"{write}: {type(error).__name__}: {error}")
                await asyncio.sleep(self.random.random() * _PAUSE_SECONDS)
        finally:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.InterfaceError):
                await connection.close(timeout=5)

    def _owner(self) -> Owner:
        return self.random.choice(self.owners)

    def _rows(self, owner: Owner, most: int) -> list[Any]:
        return [self.marks.log_row(owner) for _ in range(self.random.randrange(1, most + 1))]

    async def _loop(self, connection: Any) -> str:
        """The usual transaction of a platform: one account, and a statement for each row."""
        owner = self._owner()
        async with connection.transaction():
            for ticket in owner.tickets:
                row = self.marks.log_row(owner)
                row = replace(
                    row, event_type="sync", ticket=ticket, close_reason=None, matched=1, error_message=None
                )
                await tables.LOG.insert(connection, [row])
            await tables.EQUITY.insert(connection, [self.marks.equity_row(owner)])
        return "loops"

    async def _serializable(self, connection: Any) -> str:
        """Read the rows that it then writes, so that two such transactions can conflict."""
        owner = self._owner()
        async with connection.transaction(isolation="serializable"):
            await connection.fetchval(
                "SELECT count(*) FROM equity_snapshots WHERE user_id = $1", owner.user_id
            )
            await asyncio.sleep(self.random.random() * _LOOK_SECONDS)
            await tables.LOG.insert(connection, self._rows(owner, 4))
            await tables.EQUITY.insert(connection, [self.marks.equity_row(owner)])
        return "serializable"

    async def _repeatable_read(self, connection: Any) -> str:
        """A transaction whose snapshot is older than later commits for the same accounts."""
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("SELECT 1 FROM equity_snapshots LIMIT 1")
            await asyncio.sleep(self.random.random() * 3 * _LOOK_SECONDS)
            for owner in self.random.sample(self.owners, 3):
                await tables.LOG.insert(connection, self._rows(owner, 3))
        return "repeatable read"

    async def _savepoints(self, connection: Any) -> str:
        """Take some of the rows back, and sometimes all of them."""
        owner, other = self.random.sample(self.owners, 2)
        with contextlib.suppress(_TakenBack):
            async with connection.transaction():
                await tables.LOG.insert(connection, self._rows(owner, 3))
                for _ in range(3):
                    with contextlib.suppress(_TakenBack):
                        async with connection.transaction():
                            await tables.LOG.insert(connection, self._rows(owner, 3))
                            await tables.EQUITY.insert(connection, [self.marks.equity_row(other)])
                            if self.random.random() < 0.5:
                                raise _TakenBack
                if self.random.random() < 0.2:
                    raise _TakenBack
        return "savepoints"

    async def _copy(self, connection: Any) -> str:
        """Many rows of a few accounts in one COPY."""
        owners = self.random.sample(self.owners, 3)
        rows = [
            self.marks.log_row(self.random.choice(owners))
            for _ in range(self.random.randrange(*_COPIED_ROWS))
        ]
        await connection.copy_records_to_table(
            "reconciliation_logs",
            columns=[name for name, _ in tables.LOG.columns.values()],
            records=[tuple(_copied(getattr(row, name)) for name in tables.LOG.columns) for row in rows],
        )
        self._remember(rows)
        await asyncio.sleep(_COPY_EVERY_SECONDS)
        return "COPY"

    async def _move(self, connection: Any) -> str:
        """Move rows to another partition, which PostgreSQL does by a delete and an insert."""
        await connection.execute(
            "UPDATE reconciliation_logs SET desk = (desk + 1) % $2 WHERE id = ANY ($1::text[]::uuid[])",
            self.random.sample(self._ids, min(20, len(self._ids))),
            _DESKS,
        )
        return "partition moves"

    async def _alter(self, connection: Any) -> str:
        """Alter rows in place."""
        await tables.LOG.update(
            connection,
            self.random.sample(self._ids, min(5, len(self._ids))),
            {"current_price": Decimal(self.random.randrange(90, 140))},
        )
        return "alterations"

    async def _reference(self, connection: Any) -> str:
        """Change limits, rates and instruments."""
        owner = self._owner()
        match self.random.randrange(4):
            case 0:
                warning = Decimal(self.random.randrange(5, 15))
                await tables.set_limits(
                    connection, Limits(user_id=owner.user_id, drawdown_warning_pct=warning)
                )
            case 1:
                await tables.forget_limits(connection, owner.user_id)
            case 2:
                rate = FxRate(
                    base="USD",
                    quote=owner.mark[:16].upper(),
                    rate=Decimal(self.random.randrange(50, 200)) / 100,
                    created_at=datetime.now(UTC),
                )
                await tables.FX.insert(connection, [rate])
            case _:
                symbol = f"{owner.mark}{self.random.randrange(3)}".upper()
                size = Decimal(self.random.choice([1, 10, 100]))
                instrument = Instrument(symbol=symbol, contract_size=size, quote_currency="USD")
                await tables.set_instrument(connection, instrument)
        return "reference"

    async def _open(self, connection: Any, stop: asyncio.Event) -> str:
        """A transaction that stays open for long after its writes, and commits late."""
        async with connection.transaction():
            await tables.LOG.insert(connection, self._rows(self._owner(), 2))
            await _wait(stop, _OPEN_SECONDS)
        return "late commits"

    async def _read(self, connection: Any, stop: asyncio.Event) -> str:
        """A snapshot that is kept for long, so that no vacuum can remove the rows that it may see."""
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.fetchval("SELECT count(*) FROM equity_snapshots")
            await _wait(stop, _OPEN_SECONDS)
        return "long snapshots"

    async def _prepare(self, connection: Any) -> str:
        """The first half of a two-phase commit; another connection does the second."""
        gid = f"trade-{next(self._numbers)}-{uuid4()}"
        await connection.execute("BEGIN")
        await tables.LOG.insert(connection, self._rows(self._owner(), 4))
        await tables.EQUITY.insert(connection, [self.marks.equity_row(self._owner())])
        await connection.execute(f"PREPARE TRANSACTION '{gid}'")
        self._prepared.append((gid, time.monotonic() + self.random.random() * _PREPARED_SECONDS))
        return "prepared"

    async def _finish_prepared(self, connection: Any) -> str:
        for gid, _ in [each for each in self._prepared if each[1] < time.monotonic()]:
            how = "ROLLBACK" if self.random.random() < 0.2 else "COMMIT"
            await connection.execute(f"{how} PREPARED '{gid}'")
            self._prepared = [each for each in self._prepared if each[0] != gid]
        return "looks at prepared ones"

    def _remember(self, rows: Sequence[Any]) -> None:
        self._ids = [*self._ids, *(row.id for row in rows[:100])][-_REMEMBERED:]


class _TakenBack(Exception):
    """Raised by a writer to roll back a transaction or a savepoint."""


def partial_open(
    write: Callable[[Any, asyncio.Event], Awaitable[str]], stop: asyncio.Event
) -> Callable[[Any], Awaitable[str]]:
    """Bind ``write`` to the event that ends its waiting, for `Traders._repeat`."""

    async def bound(connection: Any) -> str:
        return await write(connection, stop)

    return bound


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def _copied(value: Any) -> Any:
    """The value in the form of the driver's binary COPY."""
    return UUID(value) if isinstance(value, str) and len(value) == 36 and value.count("-") == 4 else value

"""The history of a database that another program wrote to, in the order in which its rows were committed."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from realtime.audit.history import Arrival, EquityRow, FxRate, History, Instrument, LogRow
from tests.end_to_end import tables

#: The platform's tables do not hold the order in which rows arrived; the applier recorded that order.
_ARRIVALS: Final = """
SELECT log_id::text AS row_id, source = 'l' AS is_log, inserted,
       coalesce(arrived_at, 'epoch'::timestamptz + revision * interval '1 microsecond') AS at
FROM guardwire.arrivals WHERE user_id = $1 ORDER BY revision, ordinal
"""


async def recorded_history(connection: Any, user_id: UUID) -> History:
    """Every committed change of ``user_id``, and all exchange rates before.

    An arrival of a row that was updated in place later has the present values of the row.
    """
    logged = await _rows(connection, tables.LOG, LogRow, user_id)
    equity = await _rows(connection, tables.EQUITY, EquityRow, user_id)
    rates = await _rates(connection)
    history = list(rates)
    for found in await connection.fetch(_ARRIVALS, user_id):
        row = (logged if found["is_log"] else equity)[found["row_id"]]
        if isinstance(row, LogRow) and not found["inserted"]:
            row = LogRow(**{**_fields(row), "inserted": False})
        history.append(Arrival(row, len(history) + 1, found["at"]))
    return history


async def known_instruments(connection: Any) -> list[Instrument]:
    """The table of instruments."""
    rows = await connection.fetch("SELECT symbol, contract_size, quote_currency FROM instruments")
    return [Instrument(**row) for row in rows]


async def _rows(connection: Any, table: tables.Table, kind: type[Any], user_id: UUID) -> dict[str, Any]:
    names = ", ".join(f"{name} AS {field}" for field, (name, _) in table.columns.items())
    rows = await connection.fetch(f"SELECT {names} FROM {table.name} WHERE user_id = $1", user_id)
    return {str(row["id"]): kind(**{**row, "id": str(row["id"])}) for row in rows}


async def _rates(connection: Any) -> list[Arrival]:
    rows = await connection.fetch("SELECT base, quote, rate, created_at FROM fx_rates ORDER BY created_at")
    return [Arrival(FxRate(**row), order, row["created_at"]) for order, row in enumerate(rows, 1)]


def _fields(row: LogRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}

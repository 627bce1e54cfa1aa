"""A platform's table from before: integer tickets, times without zone, users as text, directions 0 and 1."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

TABLE: Final = """
CREATE TABLE reconciliation_logs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id varchar(64) NOT NULL,
    signal_id varchar(64),
    mt5_position_id integer,
    symbol varchar(20),
    direction smallint,
    volume double precision,
    entry_price double precision,
    current_price real,
    take_profit integer,
    stop_loss numeric(12, 5),
    matched smallint DEFAULT 0,
    divergence_reason varchar(255),
    slippage_pips real,
    close_reason varchar(50),
    closed_price double precision,
    pnl_gbp numeric(12, 2),
    pnl_percent real,
    event_type varchar(50) NOT NULL,
    status varchar(20) NOT NULL DEFAULT 'success',
    error_message text,
    created_at timestamp NOT NULL,
    updated_at timestamp
);
CREATE INDEX ix_user ON reconciliation_logs (user_id);
CREATE INDEX ix_position ON reconciliation_logs (mt5_position_id);
"""

USERS: Final = 20
TICKETS: Final = 5

#: Inserts ``rows`` syncs for each user, one a second, of its tickets in turn; every 50th row closes instead.
HISTORY: Final = """
INSERT INTO reconciliation_logs
    (user_id, mt5_position_id, symbol, direction, volume, entry_price, current_price, matched, event_type,
     created_at, updated_at)
SELECT CASE n % 3 WHEN 0 THEN upper(u.id) WHEN 1 THEN replace(u.id, '-', '') ELSE u.id END,
       1 + n % 5, 'EURUSD', n % 5 % 2, 0.1, 1.1, 1.1 + n % 100 / 10000.0, 1,
       CASE WHEN n % 50 = 49 THEN 'close' ELSE 'sync' END,
       timestamp '2026-03-02 09:00' + n * interval '1 second',
       timestamp '2026-03-02 09:00:00.25' + n * interval '1 second'
FROM (SELECT md5(number::text)::uuid::text AS id FROM generate_series(1, {users}) AS number) AS u,
     generate_series(0, {rows} - 1) AS n
"""

SYNC: Final = """
INSERT INTO reconciliation_logs
    (user_id, mt5_position_id, symbol, direction, volume, entry_price, current_price, matched, event_type,
     created_at)
VALUES
    (md5($1::integer::text)::uuid::text, $2, 'EURUSD', 0, 0.1, 1.1, $3, 1, 'sync',
     now() AT TIME ZONE 'UTC')
"""


async def make(connection: Any, *, rows_per_user: int) -> None:
    """The table with its history."""
    await connection.execute(TABLE)
    await connection.execute(HISTORY.format(users=USERS, rows=rows_per_user))
    await connection.execute("ANALYZE reconciliation_logs")


async def users(connection: Any) -> list[UUID]:
    """Every user of the history."""
    rows = await connection.fetch(
        f"SELECT md5(number::text)::uuid FROM generate_series(1, {USERS}) AS number"
    )
    return [row[0] for row in rows]

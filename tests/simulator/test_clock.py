"""The simulated platform's clock, and what Guardwire makes of it."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import pytest

from queries.channels import LIVE_QUERIES
from realtime.simulator import PlatformClock, SimulatorOptions, demo_user_id, simulate
from tests.inbox import apply_inbox


@pytest.mark.parametrize(
    ("text", "offset"),
    [("+3h", timedelta(hours=3)), ("-2h", timedelta(hours=-2)), ("+90s", timedelta(seconds=90))],
)  # fmt: skip
def test_a_clock_is_off_from_the_beginning(text: str, offset: timedelta) -> None:
    clock = PlatformClock.parse(text)
    for run_seconds in (0.0, 100.0):
        assert clock.offset_at(run_seconds) == offset


def test_a_step_goes_back_an_hour_after_half_a_minute() -> None:
    clock = PlatformClock.parse("step")
    assert [clock.offset_at(seconds) for seconds in (0.0, 29.0, 31.0)] == [timedelta(0)] * 2 + [
        timedelta(hours=-1)
    ]


@pytest.mark.parametrize("text", ["", "3h", "+h", "+3d", "steps", "+3h "])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is none of"):
        PlatformClock.parse(text)


STEP = PlatformClock(timedelta(hours=-1), after_seconds=1.0)


@pytest.mark.parametrize(
    ("clock", "said"),
    [(PlatformClock.parse("+3h"), -10800), (PlatformClock.parse("-2h"), 7200), (STEP, 3600)],
    ids=["ahead", "behind", "a step"],
)
async def test_the_state_is_right_and_says_that_the_clock_is_off(
    migrated_url: str, clock: PlatformClock, said: int
) -> None:
    options = SimulatorOptions(users=1, positions=3, seconds=4, rows_per_second=40, closes=0, clock=clock)
    await simulate(migrated_url, options)
    connection = await asyncpg.connect(migrated_url)
    try:
        await apply_inbox(connection)
        (found,) = await LIVE_QUERIES.evaluate(connection, [demo_user_id()])
        newest = await connection.fetchval(_NEWEST_PRICES)
    finally:
        await connection.close()
    status, book = found.state["status"], found.state["positions"]
    assert (status["source"], abs(status["clock_offset_seconds"] - said) <= 1) == ("live", True)
    shown = {**book["open"], **book.get("unmatched", {})}
    assert {ticket: position["current_price"] for ticket, position in shown.items()} == dict(newest)


#: The price of each ticket's last row that is not a close, in the order of arrival.
_NEWEST_PRICES = """
SELECT array_agg((o.ticket, o.price))
FROM (SELECT DISTINCT ON (l.mt5_position_id) l.mt5_position_id::text AS ticket, l.current_price::float8 AS price,
             l.event_type = 'close' OR l.close_reason IS NOT NULL AS is_closed
      FROM reconciliation_logs AS l JOIN guardwire.arrivals AS a ON a.log_id = l.id
      WHERE l.mt5_position_id IS NOT NULL AND l.status = 'success'
      ORDER BY l.mt5_position_id, a.revision DESC, a.ordinal DESC) AS o
WHERE NOT o.is_closed
"""

"""Rows that the platform changed in place or removed are no difference, and an alteration is found beside them."""

from __future__ import annotations

import pytest

from queries.capture import housekeep, rebuild
from tests.audit.auditing import differences
from tests.queries.database_writer import DatabaseWriter

_LOG = "UPDATE reconciliation_logs SET {} WHERE user_id = $1 AND mt5_position_id = 1".format
_GUARD = "UPDATE reconciliation_logs SET {} WHERE user_id = $1 AND event_type = 'guard_trigger'".format
_EQUITY = "UPDATE equity_snapshots SET {} WHERE user_id = $1 AND equity = 7000".format
CHANGES = {
    "a close": _LOG("close_reason = 'tp'"),
    "a divergence": _LOG("matched = 2"),
    "a failure": _LOG("status = 'failed', error_message = 'no'"),
    "an error": _LOG("error_message = 'no'"),
    "an earlier time": _LOG("created_at = created_at - interval '1 hour', current_price = 7"),
    "a later time": _LOG("created_at = created_at + interval '30 s', current_price = 7"),
    "another ticket": _LOG("mt5_position_id = 5"),
    "no ticket": _LOG("mt5_position_id = NULL"),
    "another user": _LOG("user_id = gen_random_uuid()"),
    "a guard trigger": _LOG("event_type = 'guard_trigger', divergence_reason = 'gap'"),
    "another kind": _LOG("event_type = 'note'"),
    "a guard of another symbol": _GUARD("symbol = 'EURUSD'"),
    "a guard of another kind": _GUARD("divergence_reason = 'spread'"),
    "an earlier guard": _GUARD("created_at = created_at - interval '2 hours'"),
    "a guard that is a sync": _GUARD("event_type = 'sync', mt5_position_id = 6"),
    "equity": _EQUITY("equity = 9000"),
    "earlier equity": _EQUITY("created_at = created_at - interval '1 hour'"),
    "a cash flow": _EQUITY("cash_flow = -3000"),
    "no equity": _EQUITY("equity = 'NaN'"),
    "no equity at all": "UPDATE equity_snapshots SET equity = 'NaN' WHERE user_id = $1",
    "another currency": _EQUITY("currency = 'GBP'"),
    "equity of another user": _EQUITY("user_id = gen_random_uuid()"),
}
REMOVALS = {
    "the log": "DELETE FROM reconciliation_logs WHERE user_id = $1",
    "all equity": "DELETE FROM equity_snapshots WHERE user_id = $1",
    "the last equity": "DELETE FROM equity_snapshots WHERE user_id = $1 AND equity = 7000",
    "the peak": "DELETE FROM equity_snapshots WHERE user_id = $1 AND equity = 10000",
    "a ticket": "DELETE FROM reconciliation_logs WHERE user_id = $1 AND mt5_position_id = 1",
    "closes": "DELETE FROM reconciliation_logs WHERE user_id = $1 AND event_type = 'close'",
    "guard triggers": "DELETE FROM reconciliation_logs WHERE user_id = $1 AND event_type = 'guard_trigger'",
    "old rows": "DELETE FROM reconciliation_logs WHERE user_id = $1 AND created_at < now() - interval '45 s'",
    "new rows": "DELETE FROM reconciliation_logs WHERE user_id = $1 AND created_at > now() - interval '45 s'",
    "rates": "DELETE FROM fx_rates WHERE $1::uuid IS NOT NULL",
}


async def trade(writer: DatabaseWriter) -> None:
    """Write an account with something on every channel."""
    await writer.sync(0)
    await writer.sync(1, ticket=2, symbol="USDJPY")
    await writer.close(2, ticket=3)
    await writer.sync(3, ticket=4, event_type="divergence", matched=2)
    await writer.rate("USD", "JPY", 150, 4)
    await writer.equity(10_000, 10)
    await writer.equity(7_000, 20)
    await writer.guard("gap", 100, 115, 20)
    await writer.sync(30, current_price=1960)


async def agree(writer: DatabaseWriter) -> None:
    """Fail where an audit finds a difference, before or after a rebuild."""
    await housekeep(writer.connection)
    assert await differences(writer.connection, writer.user_id) == []
    await rebuild(writer.connection, writer.user_id)
    assert await differences(writer.connection, writer.user_id) == []


@pytest.mark.parametrize("change", CHANGES)
async def test_a_row_that_is_changed_in_place_is_no_difference(writer: DatabaseWriter, change: str) -> None:
    await trade(writer)
    await writer.execute(CHANGES[change], writer.user_id)
    await agree(writer)


async def test_a_close_that_is_taken_back_is_no_difference(writer: DatabaseWriter) -> None:
    await trade(writer)
    for ticket in (1, 4):
        row_id = await writer.sync(40, ticket=ticket, matched=ticket // 2, close_reason="tp")
        await writer.update(row_id, close_reason=None)
    assert set(await writer.book()) == {"2"}
    await agree(writer)


@pytest.mark.parametrize("change", ["status = 'failed'", "event_type = 'note'", "mt5_position_id = NULL"])
async def test_an_event_after_a_row_that_speaks_no_more_is_no_difference(
    writer: DatabaseWriter, change: str
) -> None:
    """The later row changed a position that was matched, and the rows on record have it open a new one."""
    row_id = await writer.sync(0)
    await writer.sync(10, take_profit="2000")
    await writer.execute(f"UPDATE reconciliation_logs SET {change} WHERE id = $1", row_id)
    await agree(writer)


async def test_equity_that_is_removed_beside_another_of_its_time_is_no_difference(
    writer: DatabaseWriter,
) -> None:
    await writer.equity(8_000, 20)
    row_id = await writer.equity(10_000, 20)
    await writer.execute("DELETE FROM equity_snapshots WHERE id = $1", row_id)
    await agree(writer)


async def test_a_cash_flow_that_is_removed_is_no_difference(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 10)
    row_id = await writer.equity(9_000, 20, cash_flow=-1_000)
    await writer.equity(8_000, 30)
    await writer.execute("DELETE FROM equity_snapshots WHERE id = $1", row_id)
    await agree(writer)


async def test_a_cash_flow_that_arrived_early_with_a_late_time_and_is_removed_is_no_difference(
    writer: DatabaseWriter,
) -> None:
    row_id = await writer.equity(9_000, 30, cash_flow=-1_000)
    await writer.equity(10_000, 10)
    await writer.equity(8_000, 40)
    await writer.execute("DELETE FROM equity_snapshots WHERE id = $1", row_id)
    await agree(writer)


async def test_equity_that_is_removed_beside_another_of_its_batch_and_time_is_no_difference(
    writer: DatabaseWriter,
) -> None:
    await writer.sync()
    async with writer.connection.transaction():
        await writer.equity(8_000, 20, currency="GBP")
        row_id = await writer.equity(10_000, 20, currency="USD")
    await writer.execute("DELETE FROM equity_snapshots WHERE id = $1", row_id)
    await agree(writer)


async def test_flows_between_a_late_row_and_the_newest_ones_are_not_missed(writer: DatabaseWriter) -> None:
    """Without the flow, which is older than the rows that are read, the late row would be a peak of 9500."""
    await writer.equity(8_500, 10, cash_flow=-1_000)
    for second in range(20, 25):
        await writer.equity(8_400, second)
    await writer.equity(9_500, 5)
    for most_rows in range(1, 8):
        assert await differences(writer.connection, writer.user_id, most_rows=most_rows) == []


@pytest.mark.parametrize("change", ["created_at = created_at + interval '30 s'", "cash_flow = -50"])
async def test_equity_before_the_newest_rows_whose_change_waits_is_no_difference(
    writer: DatabaseWriter, change: str
) -> None:
    row_id = await writer.equity(9_500, 5)
    await writer.equity(8_500, 10, cash_flow=-1_000)
    for second in range(20, 25):
        await writer.equity(8_400, second)
    writer.applies = False
    await writer.execute(f"UPDATE equity_snapshots SET {change} WHERE id = $1", row_id)
    for most_rows in range(1, 8):
        assert await differences(writer.connection, writer.user_id, most_rows=most_rows) == []


async def test_equity_rows_of_one_time_of_which_some_are_not_read_are_no_difference(
    writer: DatabaseWriter,
) -> None:
    for equity, flow in ((9_000, 0), (8_000, -1_000), (7_000, 0), (6_000, -500), (8_500, 0), (8_400, 0)):
        await writer.equity(equity, 10, cash_flow=flow)
    for most_rows in range(1, 8):
        assert await differences(writer.connection, writer.user_id, most_rows=most_rows) == []


async def test_equity_that_was_implausible_after_rows_that_are_not_read_is_no_difference(
    writer: DatabaseWriter,
) -> None:
    """The row that was doubted is among the rows that are read, and what made it implausible is not."""
    for second, equity in enumerate((60, 60, 410, 212, 211, 210, 209, 208)):
        await writer.equity(equity, second)
    assert (await writer.drawdown())["peak_equity"] == 212
    for most_rows in range(1, 10):
        assert await differences(writer.connection, writer.user_id, most_rows=most_rows) == []


async def test_equity_that_a_late_row_contradicted_which_is_not_read_is_no_difference(
    writer: DatabaseWriter,
) -> None:
    await writer.equity(60, 0)
    for second, equity in ((20, 410), (10, 60), (21, 408), (11, 60), (22, 212), (23, 211), (24, 210)):
        await writer.equity(equity, second)
    for most_rows in range(1, 10):
        assert await differences(writer.connection, writer.user_id, most_rows=most_rows) == []


@pytest.mark.parametrize("gone", [1, 2])
async def test_a_currency_that_hangs_on_equity_that_is_removed_or_not_read_is_no_difference(
    writer: DatabaseWriter, gone: int
) -> None:
    """The second and the third row confirm each other; without one of them the last row is accepted, in USD."""
    await writer.sync(10, symbol="GERX")
    rows = [
        await writer.equity(92, 0, currency="GBP"),
        await writer.equity(5235, 0.01, currency="GBP"),
        await writer.equity(8500, created_at=None, currency="GBP"),
        await writer.equity(8787, 0, currency="USD"),
    ]
    await writer.execute("DELETE FROM equity_snapshots WHERE id = $1", rows[gone])
    for _ in range(2):
        for most_rows in (3, 12):
            assert await differences(writer.connection, writer.user_id, most_rows=most_rows) == []
        await rebuild(writer.connection, writer.user_id)


async def test_an_altered_peak_is_found_among_the_newest_rows(writer: DatabaseWriter) -> None:
    for second in range(10):
        await writer.equity(9_000 - second, second)
    await writer.execute("UPDATE guardwire.accounts SET peak_equity = 8991, drawdown_pct = 0")
    found = await differences(writer.connection, writer.user_id, most_rows=5)
    assert [each.partition(":")[0] for each in found[:1]] == ["guards/drawdown/peak_equity"]


@pytest.mark.parametrize("removal", REMOVALS)
async def test_a_row_that_is_removed_is_no_difference(writer: DatabaseWriter, removal: str) -> None:
    await trade(writer)
    await writer.execute(REMOVALS[removal], writer.user_id)
    await agree(writer)


@pytest.mark.parametrize(
    "alteration",
    [
        "UPDATE guardwire.positions SET current_price = 1 WHERE ticket = 1",
        "UPDATE guardwire.positions SET is_open = true WHERE ticket = 3",
        "UPDATE guardwire.accounts SET equity = 6999",
        "UPDATE guardwire.accounts SET total_syncs = 0",
        "DELETE FROM guardwire.breaches WHERE kind = 'drawdown'",
    ],
)
async def test_an_alteration_is_found_where_every_row_was_changed_in_place(
    writer: DatabaseWriter, alteration: str
) -> None:
    await trade(writer)
    await writer.execute(_LOG("take_profit = 2000"), writer.user_id)
    await writer.execute(_EQUITY("balance = 7001"), writer.user_id)
    assert await differences(writer.connection, writer.user_id) == []
    await writer.execute(alteration)
    assert await differences(writer.connection, writer.user_id) != []


async def test_a_guard_trigger_of_the_future_whose_arrival_is_forgotten_is_no_difference(
    writer: DatabaseWriter,
) -> None:
    await writer.guard("price gap", 100, 112, 3_600)
    await writer.execute("UPDATE guardwire.backfill SET started_at = now() - interval '30 days'")
    await writer.execute("DELETE FROM guardwire.arrivals WHERE source = 'l'")
    assert await differences(writer.connection, writer.user_id) == []


async def test_a_clock_that_went_back_by_rows_that_are_not_read_is_no_difference(
    writer: DatabaseWriter,
) -> None:
    for second in (40, 10, 11, 12):
        await writer.sync(second)
    await writer.guard("price gap", 100, 112, 13)
    for second in range(14, 20):
        await writer.sync(second)
    for most_rows in range(1, 12):
        assert await differences(writer.connection, writer.user_id, most_rows=most_rows) == []


async def test_a_sync_older_than_a_row_that_was_changed_in_place_since_is_no_difference(
    writer: DatabaseWriter,
) -> None:
    await writer.sync(30, event_type="divergence", updated_at=None)
    await writer.sync(10, current_price=1_960)
    await writer.execute("UPDATE reconciliation_logs SET matched = 1 WHERE event_type = 'divergence'")
    await agree(writer)


async def test_a_sync_of_the_future_whose_arrival_is_forgotten_is_no_difference(
    writer: DatabaseWriter,
) -> None:
    await writer.sync(3_600)
    await writer.execute("UPDATE guardwire.backfill SET started_at = now() - interval '30 days'")
    await writer.execute("DELETE FROM guardwire.arrivals WHERE source = 'l'")
    await agree(writer)


async def test_a_balance_of_equity_that_is_removed_is_no_difference(writer: DatabaseWriter) -> None:
    """The last row has no balance and keeps the one of the removed row, so the percentage is of no row on record."""
    await writer.sync()
    await writer.equity(10_000, 10)
    row_id = await writer.equity(10_000, 20, balance=5_000)
    await writer.equity(10_000, 30, balance=None)
    await writer.execute("DELETE FROM equity_snapshots WHERE id = $1", row_id)
    await agree(writer)

"""The audit finds rows that passed the capture by and derived rows that were altered, and a rebuild repairs both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from queries.alert_calls import acknowledge
from queries.capture import copy_reference, rebuild
from queries.migrations.run import migrate
from realtime.audit.capture import TRIGGERS, check_capture
from tests.audit.auditing import audited, differences
from tests.queries.database_writer import DatabaseWriter

Write = Callable[[DatabaseWriter], Awaitable[object]]


async def trade(writer: DatabaseWriter) -> None:
    """Write an account with something on every channel."""
    await writer.sync(0, ticket=7)
    await writer.sync(1, ticket=8, symbol="USDJPY", volume="1")
    await writer.close(2, ticket=9)
    await writer.rate("USD", "JPY", "150", 3)
    await writer.equity("10000", 4)
    await writer.equity("7000", 5)
    await writer.guard("price gap", "100", "115", 6)
    await writer.sync(10, ticket=7, current_price="1960")
    assert await differences(writer.connection, writer.user_id) == []


async def write_past_the_triggers(writer: DatabaseWriter, write: Write) -> None:
    """Write while the triggers are disabled."""
    for table, triggers in TRIGGERS.items():
        for trigger in triggers:
            await writer.execute(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
    await write(writer)
    for table, triggers in TRIGGERS.items():
        for trigger in triggers:
            await writer.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")


#: Statements, each with a path where the account then differs.
WRITES: dict[str, tuple[Write, str]] = {
    "a price": (lambda w: w.sync(35, ticket=7, current_price="1900"), "positions/open/7/current_price"),
    "an opening": (lambda w: w.sync(35, ticket=70), "positions/open/70: should be there"),
    "a close": (lambda w: w.close(35, ticket=7), "positions/open/7: should be nothing"),
    "a divergence": (lambda w: w.sync(35, ticket=7, matched=2), "status/divergences_detected"),
    "equity": (lambda w: w.equity("6000", 35), "guards/drawdown/current_equity"),
    "limits": (lambda w: w.set_limits(drawdown_critical_pct=90), "guards/drawdown/alert_type"),
    "an instrument": (
        lambda w: w.execute("UPDATE instruments SET contract_size = 10 WHERE symbol = 'XAUUSD'"),
        "positions/open/7/unrealized_pnl",
    ),
    "a rate": (lambda w: w.rate("USD", "JPY", "140", 35), "positions/open/8/unrealized_pnl"),
    "a guard": (
        lambda w: w.guard("bid ask spread", "100", "110", 35),
        "guards/alerts/XAUUSD:bid_ask_spread: should be there",
    ),
}
_ACCOUNT = "UPDATE guardwire.accounts SET {} WHERE user_id = $1".format
_POSITION = "UPDATE guardwire.positions SET {} WHERE user_id = $1 AND ticket = {}".format

_OF_DRAWDOWN = "WHERE user_id = $1 AND kind = 'drawdown'"
_OF_MARKET = "WHERE user_id = $1 AND kind = 'market'"
_CLOSED = "WHERE user_id = $1 AND event_type = 'position_closed'"
#: Statements on derived rows, each with a path where the account then differs.
ALTERATIONS: dict[str, tuple[str, str]] = {
    "a price": (_POSITION("current_price = 1", 7),
                "positions/open/7/current_price"),
    "a profit": (_POSITION("pnl = pnl + 1", 7),
                 "positions/open/7/unrealized_pnl"),
    "a position closed": (_POSITION("is_open = false", 7),
                          "positions/open/7: should be there"),
    "a position reopened": (_POSITION("is_open = true", 9),
                            "positions/open/9: should be nothing"),
    "a position gone": ("DELETE FROM guardwire.positions WHERE user_id = $1 AND ticket = 7",
                        "positions/open/7: should be there"),
    "equity": (_ACCOUNT("equity = 9999"), "guards/drawdown/current_equity"),
    "a level": (_ACCOUNT("drawdown_level = 'normal'"),
                "guards/drawdown/alert_type"),
    "a lower peak": (_ACCOUNT("peak_equity = 7000"),
                     "guards/drawdown/peak_equity"),
    "a lower peak of the fold": (_ACCOUNT("peak.value = 9000, peak_equity = 9000, drawdown_pct = 22.22"),
                                 "guards/drawdown/peak_equity"),
    "equity called overdue": (_ACCOUNT("equity_overdue = true"), "guards/drawdown/doubt"),
    "equity in doubt": (_ACCOUNT("doubted.row_id = gen_random_uuid(), doubted.equity = 1"),
                        "guards/drawdown/doubted_equity"),
    "a count": (_ACCOUNT("total_syncs = 1"), "status/total_syncs"),
    "a sync's time": (_ACCOUNT("last_sync_at = last_sync_at - interval '1 h'"),
                      "status/last_sync_at"),
    "an error": (_ACCOUNT("error_message = 'no'"), "status/error_message"),
    "an account gone": ("DELETE FROM guardwire.accounts WHERE user_id = $1", "drawdown/current_equity"),
    "an event gone": (f"DELETE FROM guardwire.events {_CLOSED}",
                      "status/recent_events"),
    "an event": (f"UPDATE guardwire.events SET ticket = 5 {_CLOSED}",
                 "mt5_ticket"),
    "an alert gone": ("DELETE FROM guardwire.market_alerts WHERE user_id = $1", "alerts/XAUUSD:price_gap"),
    "breaches gone": ("DELETE FROM guardwire.breaches WHERE user_id = $1", "guards/breaches of drawdown"),
    "breaches cleared": ("UPDATE guardwire.breaches SET cleared_at = now() WHERE user_id = $1",
                         "guards/breaches of XAUUSD:price_gap"),
    "a breach too many": (
        "INSERT INTO guardwire.breaches SELECT $1, 'x', 'drawdown', NULL, NULL, now()",
        "guards/breaches of drawdown"),
    "a drawdown's alert missed": (
        f"DELETE FROM guardwire.alerts {_OF_DRAWDOWN}",
        "alerts/open of drawdown: should be 'open' and is nothing"),
    "a market's alert missed": (
        f"DELETE FROM guardwire.alerts {_OF_MARKET}",
        "alerts/open of XAUUSD:price_gap: should be 'open' and is nothing"),
    "an alert ended": (
        f"UPDATE guardwire.alerts SET stands = false, resolved_at = now(), next_at = NULL {_OF_DRAWDOWN}",
        "alerts/open of drawdown: should be 'open' and is nothing"),
    "an alert whose condition is called over": (
        f"UPDATE guardwire.alerts SET stands = false {_OF_DRAWDOWN}",
        "alerts/open of drawdown: should be 'open' and is 'open, and its condition over'"),
    "an alert resolved, which nobody acknowledged": (
        f"UPDATE guardwire.alerts SET resolved_at = now() - interval '1 h', next_at = NULL {_OF_MARKET}",
        "alerts/open of XAUUSD:price_gap: should be 'open' and is 'resolved, and nobody acknowledged it'"),
    "an alert resolved over open positions": (
        f"UPDATE guardwire.alerts SET resolved_at = now(), acknowledged_at = now(), next_at = NULL {_OF_DRAWDOWN}",
        "alerts/open of drawdown: should be 'open' and is 'resolved, and its positions open'"),
    "an alert too many": (
        f"""INSERT INTO guardwire.alerts
            SELECT (jsonb_populate_record(a, jsonb_build_object(
                'alert_id', guardwire.alert_id_of($1, 'market', 'EURUSD price_gap'),
                'symbol', 'EURUSD', 'subject', 'EURUSD price_gap'))).*
            FROM guardwire.alerts AS a {_OF_MARKET}""",
        "alerts/open of EURUSD:price_gap: should be nothing and is 'open'"),
    "limits as applied": (
        "INSERT INTO guardwire.limits (user_id, drawdown_critical_pct) VALUES ($1, 90)",
        "guards/drawdown/critical_pct"),
    "a rate as applied": ("UPDATE guardwire.fx_current SET rate = 100 WHERE $1::uuid IS NOT NULL",
                          "positions/open/8/unrealized_pnl"),
}  # fmt: skip


async def is_found_and_repaired(writer: DatabaseWriter, path: str) -> None:
    found = await differences(writer.connection, writer.user_id)
    assert any(path in line for line in found), found
    await copy_reference(writer.connection)
    await rebuild(writer.connection, writer.user_id)
    assert await differences(writer.connection, writer.user_id) == []


@pytest.mark.parametrize("write", WRITES)
async def test_a_row_that_is_written_past_the_triggers_is_found_and_repaired(
    writer: DatabaseWriter, write: str
) -> None:
    await trade(writer)
    statement, path = WRITES[write]
    await write_past_the_triggers(writer, statement)
    await is_found_and_repaired(writer, path)


@pytest.mark.parametrize("what", ALTERATIONS)
async def test_an_alteration_by_hand_is_found_and_repaired(writer: DatabaseWriter, what: str) -> None:
    await trade(writer)
    statement, path = ALTERATIONS[what]
    await writer.execute(statement, writer.user_id)
    await is_found_and_repaired(writer, path)


async def test_an_alert_that_was_acknowledged_and_whose_positions_are_closed_is_right(
    writer: DatabaseWriter,
) -> None:
    await trade(writer)
    rows = await writer.connection.fetch("SELECT alert_id FROM guardwire.alerts ORDER BY kind")
    assert len(rows) == 2
    ids = {row["alert_id"]: 1 for row in rows}
    await acknowledge(writer.connection, writer.user_id, ids, by_name="closer-1", action="acting")
    assert await differences(writer.connection, writer.user_id) == []
    await writer.close(20, ticket=7)
    await writer.close(21, ticket=8)
    assert (await writer.state())["alerts"]["open"] == {}
    assert await differences(writer.connection, writer.user_id) == []
    await rebuild(writer.connection, writer.user_id)
    assert await differences(writer.connection, writer.user_id) == []
    # A position of another symbol concerns the drawdown alone, which is raised again.
    await writer.sync(30, ticket=70, symbol="EURUSD")
    (alert,) = (await writer.state())["alerts"]["open"].values()
    assert alert["kind"] == "drawdown"
    assert await differences(writer.connection, writer.user_id) == []


async def test_an_alert_that_a_rebuild_raises_escalates(writer: DatabaseWriter) -> None:
    await trade(writer)
    await writer.execute("DELETE FROM guardwire.alerts")
    await rebuild(writer.connection, writer.user_id)
    due = await writer.connection.fetch(
        "SELECT kind, next_at > now() AS escalates FROM guardwire.alerts ORDER BY kind"
    )
    assert [tuple(row) for row in due] == [("drawdown", True), ("market", True)]


async def test_a_row_that_the_inbox_lost_is_found_and_repaired(writer: DatabaseWriter) -> None:
    await trade(writer)
    writer.applies = False
    await writer.sync(20, ticket=7, current_price="1900")
    assert await differences(writer.connection, writer.user_id) == []
    await writer.execute("DELETE FROM guardwire.inbox")
    await is_found_and_repaired(writer, "positions/open/7/current_price")


async def test_rows_past_the_triggers_are_counted(writer: DatabaseWriter) -> None:
    await writer.sync()
    await write_past_the_triggers(writer, lambda w: w.sync(ticket=8, created_at=datetime.now(UTC)))
    verdict = await audited(writer.connection, writer.user_id)
    assert verdict.passed_by == 1


async def test_a_row_that_was_set_aside_differs_and_did_not_pass_the_triggers(writer: DatabaseWriter) -> None:
    await writer.sync()
    writer.applies = False
    await writer.sync(ticket=8, created_at=datetime.now(UTC))
    await writer.execute(
        "INSERT INTO guardwire.set_aside (nth, account, source, operation, new_row, xid, arrived_at, sqlstate, reason)"
        " SELECT nth, account, source, operation, new_row, xid, arrived_at, '22000', 'odd' FROM guardwire.inbox"
    )
    await writer.execute("DELETE FROM guardwire.inbox")
    verdict = await audited(writer.connection, writer.user_id)
    assert "positions/open/8" in [each.path for each in verdict.differences]
    assert verdict.passed_by == 0


async def test_rows_that_replication_applies_are_captured(writer: DatabaseWriter) -> None:
    await trade(writer)
    await writer.execute("SET session_replication_role = replica")
    for write, _ in WRITES.values():
        await write(writer)
    verdict = await audited(writer.connection, writer.user_id)
    assert verdict.differences == []
    assert verdict.passed_by == 0


async def test_an_alteration_is_found_among_the_newest_rows_of_a_long_history(writer: DatabaseWriter) -> None:
    for price in range(1900, 1940):
        await writer.sync(ticket=7, created_at=datetime.now(UTC), current_price=price)
    await writer.execute("UPDATE guardwire.positions SET current_price = 1")
    verdict = await audited(writer.connection, writer.user_id, most_rows=5)
    assert verdict.partial
    assert [each.path for each in verdict.differences][:1] == ["positions/open/7/current_price"]


@pytest.mark.parametrize(
    ("table", "trigger"), [(table, trigger) for table, triggers in TRIGGERS.items() for trigger in triggers]
)
@pytest.mark.parametrize(
    ("statement", "wrong"),
    [
        ("ALTER TABLE {table} DISABLE TRIGGER {trigger}", "disabled"),
        ("DROP TRIGGER {trigger} ON {table}", "missing"),
        ("ALTER TABLE {table} ENABLE REPLICA TRIGGER {trigger}", "not enabled as ALWAYS"),
        ("ALTER TABLE {table} ENABLE TRIGGER {trigger}", "not enabled as ALWAYS"),
    ],
    ids=["disabled", "missing", "replica", "origin"],
)
async def test_a_trigger_that_does_not_fire_always_is_named_and_repaired(
    writer: DatabaseWriter, migrated_url: str, table: str, trigger: str, statement: str, wrong: str
) -> None:
    assert await check_capture(writer.connection) == []
    await writer.execute(statement.format(table=table, trigger=trigger))
    (complaint,) = await check_capture(writer.connection)
    assert complaint.wrong.startswith(f"trigger {trigger} on {table} is {wrong}")
    progress: list[str] = []
    await migrate(migrated_url, progress=progress.append)
    assert any(trigger in line for line in progress)
    assert await check_capture(writer.connection) == []
    await writer.sync()
    assert await differences(writer.connection, writer.user_id) == []


async def test_rows_that_were_set_aside_and_histories_not_read_are_named(writer: DatabaseWriter) -> None:
    await writer.execute(
        "INSERT INTO guardwire.set_aside (nth, account, source, operation, xid, arrived_at, sqlstate, reason)"
        " VALUES (1, $1, 'l', 'i', pg_current_xact_id(), now(), '22000', 'odd')",
        writer.of().user_id,
    )
    await writer.sync()
    await writer.execute("SELECT guardwire.unready($1)", writer.user_id)
    set_aside, unread = await check_capture(writer.connection)
    assert "1 row could not be applied" in set_aside.wrong
    assert "the history of 1 account has not been read" in unread.wrong
    assert not (await audited(writer.connection, writer.user_id)).ready

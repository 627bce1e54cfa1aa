"""Whatever passed the capture by, or altered what it made: the audit finds it, and a rebuild mends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from queries.capture import copy_reference, rebuild
from queries.migrations.run import migrate
from realtime.audit.capture import TRIGGERS, check_capture
from tests.audit.auditing import audited, differences
from tests.queries.database_writer import DatabaseWriter

Harm = Callable[[DatabaseWriter], Awaitable[object]]
SOURCES = ("reconciliation_logs", "equity_snapshots", "guard_limits", "instruments", "fx_rates")


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


async def trade(writer: DatabaseWriter) -> None:
    """An account with something on every channel."""
    await writer.sync(ticket=7, created_at=ago(60))
    await writer.sync(ticket=8, created_at=ago(59), symbol="USDJPY", volume="1")
    await writer.close(ticket=9, created_at=ago(58))
    await writer.insert("fx_rates", base="USD", quote="JPY", rate="150", created_at=ago(57))
    await writer.equity("10000", created_at=ago(56))
    await writer.equity("7000", created_at=ago(55))
    await writer.guard("price gap", "100", "115", created_at=ago(54))
    await writer.sync(ticket=7, created_at=ago(50), current_price="1960")


async def _without_triggers(writer: DatabaseWriter, write: Harm) -> None:
    for table in SOURCES:
        await writer.connection.execute(f"ALTER TABLE public.{table} DISABLE TRIGGER USER")
    await write(writer)
    for table in SOURCES:
        await writer.connection.execute(f"ALTER TABLE public.{table} ENABLE TRIGGER USER")


def _altered(statement: str) -> Harm:
    return lambda writer: writer.connection.execute(statement, writer.user_id)


WRITES: dict[str, tuple[Harm, str]] = {
    "a price": (
        lambda p: p.sync(ticket=7, current_price="1900", created_at=ago(1)),
        "positions/open/7/current_price",
    ),
    "an opening": (lambda p: p.sync(ticket=70, created_at=ago(1)), "positions/open/70: should be there"),
    "a close": (lambda p: p.close(ticket=7, created_at=ago(1)), "positions/open/7: should be nothing"),
    "a divergence": (lambda p: p.sync(ticket=7, created_at=ago(1), matched=2), "status/divergences_detected"),
    "equity": (lambda p: p.equity("6000", created_at=ago(1)), "guards/drawdown/current_equity"),
    "limits": (lambda p: p.set_limits(drawdown_critical_pct=90), "guards/drawdown/alert_type"),
    "an instrument": (
        lambda p: p.connection.execute(
            "UPDATE public.instruments SET contract_size = 10 WHERE symbol = 'XAUUSD'"
        ),
        "positions/open/7/unrealized_pnl",
    ),
    "a rate": (
        lambda p: p.insert("fx_rates", base="USD", quote="JPY", rate="140", created_at=ago(1)),
        "positions/open/8/unrealized_pnl",
    ),
    "a guard": (
        lambda p: p.guard("bid ask spread", "100", "110", created_at=ago(1)),
        "guards/alerts/XAUUSD:bid_ask_spread: should be there",
    ),
}
_ACCOUNT = "UPDATE guardwire.accounts SET {} WHERE user_id = $1".format
_POSITION = "UPDATE guardwire.positions SET {} WHERE user_id = $1 AND ticket = {}".format
_CLOSED = "WHERE user_id = $1 AND event_type = 'position_closed'"
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
}  # fmt: skip


async def _is_found_and_mended(writer: DatabaseWriter, path: str) -> None:
    found = await differences(writer.connection, writer.user_id)
    assert any(path in line for line in found), found
    await copy_reference(writer.connection)
    await rebuild(writer.connection, writer.user_id)
    assert await differences(writer.connection, writer.user_id) == []


@pytest.mark.parametrize("write", WRITES)
async def test_what_was_written_past_the_triggers_is_found_and_mended(
    writer: DatabaseWriter, write: str
) -> None:
    await trade(writer)
    assert await differences(writer.connection, writer.user_id) == []
    harm, path = WRITES[write]
    await _without_triggers(writer, harm)
    await _is_found_and_mended(writer, path)


@pytest.mark.parametrize("what", ALTERATIONS)
async def test_what_was_altered_by_hand_is_found_and_mended(writer: DatabaseWriter, what: str) -> None:
    await trade(writer)
    assert await differences(writer.connection, writer.user_id) == []
    statement, path = ALTERATIONS[what]
    await writer.connection.execute(statement, writer.user_id)
    await _is_found_and_mended(writer, path)


async def test_rows_past_the_triggers_are_counted(writer: DatabaseWriter) -> None:
    await writer.sync()
    await _without_triggers(writer, lambda p: p.sync(ticket=8, created_at=datetime.now(UTC)))
    verdict = await audited(writer.connection, writer.user_id)
    assert verdict.passed_by == 1


async def test_an_alteration_is_found_among_the_newest_rows_of_a_long_history(writer: DatabaseWriter) -> None:
    for price in range(1900, 1940):
        await writer.sync(ticket=7, created_at=datetime.now(UTC), current_price=price)
    await writer.connection.execute("UPDATE guardwire.positions SET current_price = 1")
    verdict = await audited(writer.connection, writer.user_id, most_rows=5)
    assert verdict.partial
    assert [each.path for each in verdict.differences][:1] == ["positions/open/7/current_price"]


@pytest.mark.parametrize("table", TRIGGERS)
@pytest.mark.parametrize("how", ["disabled", "missing", "for replicas only"])
async def test_a_trigger_that_is_not_at_work_is_named_and_mended(
    writer: DatabaseWriter, migrated_url: str, table: str, how: str
) -> None:
    trigger = TRIGGERS[table][0]
    assert await check_capture(writer.connection) == []
    await writer.connection.execute(
        {
            "disabled": f"ALTER TABLE {table} DISABLE TRIGGER {trigger}",
            "missing": f"DROP TRIGGER {trigger} ON {table}",
            "for replicas only": f"ALTER TABLE {table} ENABLE REPLICA TRIGGER {trigger}",
        }[how]
    )
    (complaint,) = await check_capture(writer.connection)
    assert complaint.wrong.startswith(f"trigger {trigger} on {table} is ")
    told: list[str] = []
    await migrate(migrated_url, progress=told.append)
    assert any(trigger in line for line in told)
    assert await check_capture(writer.connection) == []
    await writer.sync()
    assert await differences(writer.connection, writer.user_id) == []


async def test_rows_that_were_set_aside_and_histories_not_read_are_complaints(writer: DatabaseWriter) -> None:
    await writer.connection.execute("ALTER TABLE guardwire.positions ADD CONSTRAINT odd CHECK (ticket <> 13)")
    await writer.sync(ticket=13)
    await writer.connection.execute("SELECT guardwire.unready($1)", writer.user_id)
    set_aside, waiting = await check_capture(writer.connection)
    assert "1 row could not be applied" in set_aside.wrong
    assert "the history of 1 account has not been read" in waiting.wrong
    assert not (await audited(writer.connection, writer.user_id)).ready

"""Whatever passed the capture by, or altered what it made: the audit finds it, and a rebuild mends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from queries.capture import rebuild, reread_rates
from queries.migrations.run import migrate
from realtime.audit.capture import TRIGGERS, check_capture
from tests.audit.auditing import audited, differences
from tests.queries.platform import OTHER, Platform

Harm = Callable[[Platform], Awaitable[object]]
SOURCES = ("reconciliation_logs", "equity_snapshots", "guard_limits", "instruments", "fx_rates")


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


async def trade(platform: Platform) -> None:
    """An account with something on every channel."""
    await platform.sync(7, created_at=ago(60))
    await platform.sync(8, created_at=ago(59), symbol="USDJPY", volume="1")
    await platform.close(9, created_at=ago(58))
    await platform.insert("fx_rates", base="USD", quote="JPY", rate="150", created_at=ago(57))
    await platform.equity("10000", None, created_at=ago(56))
    await platform.equity("7000", None, created_at=ago(55))
    await platform.guard("price gap", "100", "115", created_at=ago(54))
    await platform.sync(7, created_at=ago(50), current_price="1960")


async def _without_triggers(platform: Platform, write: Harm) -> None:
    for table in SOURCES:
        await platform.connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    await write(platform)
    for table in SOURCES:
        await platform.connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


async def _as_a_replica(platform: Platform, write: Harm) -> None:
    await platform.connection.execute("SET session_replication_role = replica")
    await write(platform)
    await platform.connection.execute("SET session_replication_role = origin")


def _altered(statement: str) -> Harm:
    return lambda platform: platform.connection.execute(statement, platform.user)


WRITES: dict[str, tuple[Harm, str]] = {
    "a price": (
        lambda p: p.sync(7, current_price="1900", created_at=ago(1)),
        "positions/open/7/current_price",
    ),
    "an opening": (lambda p: p.sync(70, created_at=ago(1)), "positions/open/70: should be there"),
    "a close": (lambda p: p.close(7, created_at=ago(1)), "positions/open/7: should be nothing"),
    "a divergence": (lambda p: p.sync(7, created_at=ago(1), matched=2), "status/divergences_detected"),
    "equity": (lambda p: p.equity("6000", None, created_at=ago(1)), "guards/drawdown/current_equity"),
    "limits": (lambda p: p.limit(drawdown_critical_pct=90), "guards/drawdown/alert_type"),
    "an instrument": (
        lambda p: p.connection.execute("UPDATE instruments SET contract_size = 10 WHERE symbol = 'XAUUSD'"),
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


async def _is_found_and_mended(platform: Platform, path: str) -> None:
    found = await differences(platform.connection, platform.user)
    assert any(path in line for line in found), found
    await reread_rates(platform.connection)
    await rebuild(platform.connection, platform.user)
    assert await differences(platform.connection, platform.user) == []


@pytest.mark.parametrize("past", [_without_triggers, _as_a_replica], ids=["disabled", "replica"])
@pytest.mark.parametrize("write", WRITES)
async def test_what_was_written_past_the_triggers_is_found_and_mended(
    platform: Platform, past: Callable[[Platform, Harm], Awaitable[None]], write: str
) -> None:
    await trade(platform)
    assert await differences(platform.connection, platform.user) == []
    harm, path = WRITES[write]
    await past(platform, harm)
    await _is_found_and_mended(platform, path)


@pytest.mark.parametrize("what", ALTERATIONS)
async def test_what_was_altered_by_hand_is_found_and_mended(platform: Platform, what: str) -> None:
    await trade(platform)
    assert await differences(platform.connection, platform.user) == []
    statement, path = ALTERATIONS[what]
    await platform.connection.execute(statement, platform.user)
    await _is_found_and_mended(platform, path)


async def test_rows_past_the_triggers_are_counted(platform: Platform) -> None:
    await platform.sync()
    await _as_a_replica(platform, lambda p: p.sync(8, created_at=datetime.now(UTC)))
    verdict = await audited(platform.connection, platform.user)
    assert verdict.passed_by == 1


async def test_an_alteration_is_found_among_the_newest_rows_of_a_long_history(platform: Platform) -> None:
    for price in range(1900, 1940):
        await platform.sync(7, created_at=datetime.now(UTC), current_price=price)
    await platform.connection.execute("UPDATE guardwire.positions SET current_price = 1")
    verdict = await audited(platform.connection, platform.user, most_rows=5)
    assert verdict.partial
    assert [each.path for each in verdict.differences][:1] == ["positions/open/7/current_price"]


@pytest.mark.parametrize("table", TRIGGERS)
@pytest.mark.parametrize("how", ["disabled", "missing", "for replicas only"])
async def test_a_trigger_that_is_not_at_work_is_named_and_mended(
    platform: Platform, migrated_url: str, table: str, how: str
) -> None:
    trigger = TRIGGERS[table][0]
    assert await check_capture(platform.connection) == []
    await platform.connection.execute(
        {
            "disabled": f"ALTER TABLE {table} DISABLE TRIGGER {trigger}",
            "missing": f"DROP TRIGGER {trigger} ON {table}",
            "for replicas only": f"ALTER TABLE {table} ENABLE REPLICA TRIGGER {trigger}",
        }[how]
    )
    (complaint,) = await check_capture(platform.connection)
    assert complaint.wrong.startswith(f"trigger {trigger} on {table} is ")
    told: list[str] = []
    await migrate(migrated_url, progress=told.append)
    assert any(trigger in line for line in told)
    assert await check_capture(platform.connection) == []
    await platform.sync()
    assert await differences(platform.connection, platform.user) == []


async def test_rows_that_were_given_up_and_histories_not_read_are_told(platform: Platform) -> None:
    await platform.connection.execute(
        "INSERT INTO guardwire.capture_notes (source, row_key, inserted, sqlstate, message, given_up_at)"
        " VALUES ('l', $1, true, '22000', 'odd', now())",
        str(OTHER),
    )
    await platform.sync()
    await platform.connection.execute("SELECT guardwire.unready($1)", platform.user)
    given_up, waiting = await check_capture(platform.connection)
    assert "1 row could not be applied" in given_up.wrong
    assert "the history of 1 account has not been read" in waiting.wrong
    assert not (await audited(platform.connection, platform.user)).ready

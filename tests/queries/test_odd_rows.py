"""Rows that no platform should write: never set aside if they can be read, and the account is read as before."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from guardwire.patch import State
from queries.capture import rebuild
from queries.channels import LIVE_QUERIES
from tests.queries.database_writer import SYNC, DatabaseWriter

BEYOND_32_BITS = 2**31
LAST_TICKET = 2**63 - 1

ODD: dict[str, dict[str, Any]] = {
    "a ticket beyond 32 bits": {"ticket": BEYOND_32_BITS},
    "the last ticket": {"ticket": LAST_TICKET},
    "a direction as a number": {"direction": "0"},
    "a direction in capitals": {"direction": "SELL"},
    "a direction that is none": {"direction": "sideways"},
    "a price that is no number": {"current_price": "NaN"},
    "an infinite price": {"current_price": "Infinity"},
    "a negative infinite price": {"entry_price": "-Infinity"},
    "a price of nothing": {"entry_price": 0, "current_price": 0},
    "a negative price": {"entry_price": -37, "current_price": -40},
    "a price too large to multiply": {"entry_price": "9" * 15, "current_price": 1, "volume": "9" * 15},
    "a price of a thousand digits": {"current_price": "9" * 1000},
    "a price too small for floating point": {"current_price": "1e-400", "entry_price": "1e-400"},
    "a volume too small for floating point": {"volume": "1e-400"},
    "a price with a thousand decimals": {"current_price": "1." + "3" * 1000},
    "no volume": {"volume": 0},
    "a negative volume": {"volume": -1},
    "a volume that is no number": {"volume": "NaN"},
    "an empty symbol": {"symbol": ""},
    "a symbol of blanks": {"symbol": " \t\n"},
    "a symbol of 10,000 characters": {"symbol": "X" * 10_000},
    "a symbol of 10,000 letters that grow in upper case": {"symbol": "ß" * 10_000},
    "a symbol with control characters": {"symbol": "A\x1fB\x01"},
    "a time before all times": {"created_at": "-infinity"},
    "a time after all times": {"created_at": "infinity", "updated_at": "infinity"},
    "the year 100000": {"created_at": "100000-01-01 00:00:00+00", "updated_at": "100000-01-02 00:00:00+00"},
    "the last moment that counts": {"created_at": "9999-12-31 23:59:59.999999+00"},
    "a time before Christ": {"created_at": "4713-01-01 00:00:00+00 BC"},
    "updated 5,000 years later": {
        "created_at": "1970-01-01 00:00:00+00",
        "updated_at": "9999-12-31 23:59:59+00",
    },
    "an unknown event type": {"event_type": "rollover"},
    "an empty event type": {"event_type": ""},
    "a matched that means nothing": {"matched": -7},
    "a long divergence reason": {"divergence_reason": "spread " * 5000},
    "a long error message": {"error_message": "é" * 50_000},
    "a guard trigger without prices": {"event_type": "guard_trigger", "divergence_reason": "gap"},
    "a guard trigger without anything": {
        "event_type": "guard_trigger",
        "ticket": None,
        "symbol": None,
        "divergence_reason": None,
        "entry_price": None,
        "current_price": None,
    },
    "a spread of opposite prices": {
        "event_type": "guard_trigger",
        "divergence_reason": "spread",
        "entry_price": -5,
        "current_price": 5,
    },
    "a gap beyond reckoning": {
        "event_type": "guard_trigger",
        "divergence_reason": "gap",
        "entry_price": "0.000000000000001",
        "current_price": "999999999999999",
    },
    "a guard trigger at the end of time": {
        "event_type": "guard_trigger",
        "created_at": "9999-12-31 23:59:59.999999+00",
    },
    "a guard trigger in the year 100000": {
        "event_type": "guard_trigger",
        "created_at": "100000-01-01 00:00:00+00",
    },
    "a close without a price": {"event_type": "close", "closed_price": "NaN", "pnl_gbp": "-Infinity"},
    "an empty row": dict.fromkeys(
        ("event_type", "ticket", "symbol", "direction", "volume", "entry_price", "current_price",
         "matched", "created_at")
    ),
    "a sync without anything": dict.fromkeys(
        ("symbol", "direction", "volume", "entry_price", "current_price", "matched", "created_at")
    ),
}  # fmt: skip

ODD_EQUITY: dict[str, dict[str, Any]] = {
    "equity that is no number": {"equity": "NaN"},
    "infinite equity": {"equity": "Infinity"},
    "negative infinite equity": {"equity": "-Infinity"},
    "no equity": {"equity": None},
    "equity of nothing": {"equity": 0},
    "negative equity": {"equity": -500},
    "equity beyond reckoning": {"equity": "1e15"},
    "equity at the edge of reckoning": {"equity": "999999999999999.999999"},
    "equity too small for floating point": {"equity": "1e-400", "balance": "1e-400"},
    "a balance that is no number": {"equity": 5000, "balance": "NaN"},
    "a flow that is no number": {"equity": 5000, "cash_flow": "NaN"},
    "an infinite flow": {"equity": 5000, "cash_flow": "Infinity"},
    "a flow beyond all equity": {"equity": 5000, "cash_flow": "-999999999999999"},
    "no currency": {"equity": 5000, "currency": None},
    "a currency of 10,000 characters": {"equity": 5000, "currency": "x" * 10_000},
    "equity in the year 100000": {"equity": 5000, "created_at": "100000-01-01 00:00:00+00"},
    "equity at the end of time": {"equity": 50, "created_at": "infinity"},
    "equity without a time": {"equity": 5000, "created_at": None},
}


#: Further values, which are written in one transaction.
ODD_LOG_ROWS: list[dict[str, Any]] = [
    *({"ticket": ticket} for ticket in (2**31, 2**53 + 1, 2**63 - 1, 0, -5, -(2**63), None)),
    *({"direction": direction} for direction in ("0", "1", "SELL", " Buy\t", "up", "", "x" * 10_000, None)),
    *(
        {column: value}
        for column in ("volume", "entry_price", "current_price", "take_profit", "stop_loss")
        for value in (
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "-1",
            "1e15",
            "1e131071",
            "1e-300",
            "-1e-16383",
            None,
        )
    ),
    *({"symbol": symbol} for symbol in ("", "   ", "x" * 10_000, "é中🎉", "a'b\"c", "a,b=c\x1fd", "*", None)),
    *(
        {column: moment}
        for column in ("created_at", "updated_at")
        for moment in (
            "infinity",
            "-infinity",
            "100000-01-01",
            "4713-01-01 BC",
            "1969-12-31",
            "9999-12-31",
            None,
        )
    ),
    *(
        {"event_type": kind}
        for kind in ("", "SYNC", " sync ", "unknown", "guard_trigger", "x" * 10_000, None)
    ),
    *({"status": status} for status in ("FAILED", "", "x" * 10_000, None)),
    *({"matched": matched} for matched in (-1, 3, 2**31 - 1, None)),
    *({column: "y" * 20_000} for column in ("divergence_reason", "close_reason", "error_message")),
    *(
        {
            "event_type": "guard_trigger",
            "divergence_reason": reason,
            "entry_price": before,
            "current_price": after,
        }
        for reason in ("gap", "spread", None)
        for before, after in (("1e-300", "1e14"), ("-1", "1"), ("0", "0"), ("NaN", "NaN"), ("1e14", "1e-15"))
    ),
    {"user_id": None},
    {},
    dict.fromkeys(SYNC),
]

ODD_EQUITY_ROWS: list[dict[str, Any]] = [
    *({"equity": value} for value in ("NaN", "Infinity", "1e131071", "1e-300", "-1e14", "0", None)),
    *({"balance": value} for value in ("NaN", "-Infinity", "1e131071", "1e-300", "0", None)),
    *({"cash_flow": value} for value in ("NaN", "Infinity", "1e14", "-1e14", "1e-300", None)),
    *({"currency": value} for value in ("", " eur ", "x" * 10_000, "🎉", None)),
    *({"created_at": value} for value in ("infinity", "100000-01-01", "1900-01-01", None)),
    {"user_id": None},
]


def check_is_json(state: State) -> None:
    """The state can be sent: plain JSON without nulls and without numbers that are none."""

    def walk(value: Any) -> None:
        assert value is not None
        if isinstance(value, dict):
            for each in value.values():
                walk(each)
        elif isinstance(value, float):
            assert math.isfinite(value)

    walk(json.loads(json.dumps(state, allow_nan=False)))


@pytest.mark.parametrize("columns", ODD.values(), ids=ODD)
async def test_an_odd_row_of_the_log_stops_nobody(writer: DatabaseWriter, columns: dict[str, Any]) -> None:
    await writer.sync(ticket=77)
    row_id = await writer.sync(**{"second": 1, **columns})
    await writer.update(row_id, error_message="looked at again")
    check_is_json(await writer.state())
    assert await writer.set_aside() == []
    await writer.sync(5, ticket=78)
    assert {"77", "78"} <= set(await writer.book())


@pytest.mark.parametrize("columns", ODD_EQUITY.values(), ids=ODD_EQUITY)
async def test_an_odd_row_of_equity_stops_nobody(writer: DatabaseWriter, columns: dict[str, Any]) -> None:
    await writer.sync()
    await writer.equity(9000)
    await writer.equity(**{"second": 1, "balance": None, **columns})
    check_is_json(await writer.state())
    assert await writer.set_aside() == []
    await writer.equity(8900, 3600)
    assert (await writer.drawdown())["current_equity"] == 8900


@pytest.mark.parametrize("batch_rows", [1, 1000])
async def test_all_odd_rows_of_one_account_in_one_transaction_are_applied_and_can_be_rebuilt(
    writer: DatabaseWriter, batch_rows: int
) -> None:
    writer.applies = False
    async with writer.connection.transaction():
        for odd in ODD_LOG_ROWS:
            await writer.sync(**odd)
        for odd in ODD_EQUITY_ROWS:
            await writer.equity(**{"equity": 1000, **odd})
    await writer.apply(batch_rows=batch_rows)
    assert await writer.set_aside() == []
    check_is_json(await writer.state())
    assert await rebuild(writer.connection, writer.user_id) > 100
    check_is_json(await writer.state())
    assert (await writer.account())["ready"]


async def test_an_odd_row_does_not_spoil_the_batch_that_it_is_part_of(writer: DatabaseWriter) -> None:
    accounts = [writer.of() for _ in ODD]
    async with writer.connection.transaction():
        for account, columns in zip(accounts, ODD.values(), strict=True):
            await account.sync(ticket=77)
            await account.sync(**{"second": 1, **columns})
    for account in accounts:
        assert "77" in await account.book()
    assert await writer.set_aside() == []


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO fx_rates (base, quote, rate) VALUES (NULL, 'A', 1), (repeat('x', 99), '', 1)",
        "INSERT INTO fx_rates VALUES (DEFAULT, 'A', 'B', 1e-300, 'infinity')",
        "INSERT INTO public.instruments VALUES ('A,B=C' || chr(31), 1, NULL, 'USD')",
        "UPDATE public.instruments SET symbol = symbol || '.X'",
        "TRUNCATE fx_rates, public.instruments, guard_limits, equity_snapshots, reconciliation_logs",
    ],
)
async def test_odd_statements_on_the_other_tables_stop_nobody(writer: DatabaseWriter, statement: str) -> None:
    await writer.sync()
    await writer.execute(statement)
    assert await writer.set_aside() == []
    check_is_json(await writer.state())


async def test_a_platforms_own_limits_and_instruments_may_lack_our_checks(writer: DatabaseWriter) -> None:
    """A value that cannot be used is the default, and an instrument that cannot be used is none."""
    await writer.connection.execute("""
        ALTER TABLE guard_limits DROP CONSTRAINT guard_limits_pkey;
        ALTER TABLE guard_limits ALTER user_id DROP NOT NULL, ALTER countdown_seconds TYPE numeric,
            ALTER sync_overdue_seconds TYPE bigint, ALTER minimum_equity DROP NOT NULL,
            DROP CONSTRAINT countdown_is_within_a_day, DROP CONSTRAINT sync_overdue_is_within_a_month,
            DROP CONSTRAINT gap_levels_rise, DROP CONSTRAINT peak_since_is_finite;
        ALTER TABLE public.instruments DROP CONSTRAINT instruments_pkey,
            DROP CONSTRAINT symbol_is_upper_case, DROP CONSTRAINT contract_size_is_positive,
            DROP CONSTRAINT quote_currency_is_upper_case, ALTER symbol DROP NOT NULL""")
    await writer.sync(symbol="ÉTÉ/usd")
    await writer.execute(
        "INSERT INTO guard_limits (user_id, countdown_seconds, sync_overdue_seconds, gap_critical_pct,"
        " gap_warning_pct, minimum_equity, peak_since) VALUES ($1, 1e15, 99999999999, 'NaN', '-Infinity', NULL,"
        " 'infinity'), ($1, 7, 7, 7, 7, 7, NULL), (NULL, 1, 1, 1, 1, 1, NULL),"
        " ('ffffffff-ffff-ffff-ffff-ffffffffffff', 1, 1, 1, 1, 1, NULL)",
        writer.user_id,
    )
    await writer.execute("""
        INSERT INTO public.instruments (symbol, contract_size, quote_currency) VALUES
            (' ÉTÉ/usd ', 2, 'usd'), (NULL, 1, 'USD'), (repeat('x', 9000), 1, 'USD'), ('A', 'NaN', 'USD'),
            ('B', -1, 'USD'), ('C', 1e300, 'USD'), ('D', 1, ''), ('E', 0, 'USD'), ('E', 5, 'USD')""")
    await writer.execute("DELETE FROM guard_limits WHERE countdown_seconds = 7")
    assert await writer.set_aside() == []
    await writer.connection.execute("SELECT guardwire.copy_reference()")
    limits = (await writer.rows("limits"))[0]
    assert (limits["countdown_seconds"], limits["sync_overdue_seconds"]) == (60, 60)
    assert (limits["gap_critical_pct"], limits["minimum_equity"], limits["peak_since"]) == (10, 100, None)
    defaults = await writer.value(
        "SELECT countdown_seconds FROM guardwire.limits WHERE user_id = guardwire.no_account()"
    )
    assert defaults == 60
    assert (await writer.position())["contract_size"] == 2


async def test_limits_too_small_for_floating_point_leave_the_account_readable(writer: DatabaseWriter) -> None:
    await writer.sync()
    await writer.set_limits(
        drawdown_warning_pct="1e-400", drawdown_critical_pct="1e-400", minimum_equity="1e-400"
    )
    drawdown = await writer.drawdown()
    assert (drawdown["warning_pct"], drawdown["critical_pct"], drawdown["minimum_equity"]) == (0, 0, 0)


async def test_a_number_too_small_for_floating_point_is_nothing(writer: DatabaseWriter) -> None:
    await writer.sync(volume="1e-400")
    assert (await writer.book())["1"]["volume"] == 0


async def test_a_ticket_beyond_all_tickets_is_ignored_and_counted(writer: DatabaseWriter) -> None:
    await writer.connection.execute(
        "ALTER TABLE reconciliation_logs ALTER COLUMN mt5_position_id TYPE numeric"
    )
    odd = ("9223372036854775808", "0", "-4", "1.5", "NaN", None)
    for ticket in odd:
        await writer.sync(ticket=ticket)
    await writer.sync(ticket=str(LAST_TICKET))
    assert set(await writer.book()) == {str(LAST_TICKET)}
    assert await writer.set_aside() == []
    # A row with no ticket at all, or 0, is a sync of the loop.
    assert (await writer.account())["ignored_rows"] == len(odd) - 2


async def test_rows_for_nobody_are_ignored_and_counted(writer: DatabaseWriter) -> None:
    row = await writer.sync(user_id=None)
    equity = await writer.equity(1000, user_id=None)
    ignored = await writer.connection.fetch("SELECT source, row_key, reason FROM guardwire.ignored_rows")
    assert {tuple(each) for each in ignored} == {("log", str(row), "user"), ("equity", str(equity), "user")}
    assert await writer.revisions() == {}


@pytest.mark.parametrize("odd", ["", "nobody", "{", "0" * 31, "0" * 10_000, "{" + "0" * 32, "٠" * 32])
async def test_a_text_that_names_no_user_is_nobody(writer: DatabaseWriter, odd: str) -> None:
    await writer.connection.execute("ALTER TABLE reconciliation_logs ALTER COLUMN user_id TYPE text")
    await writer.sync(user_id=odd)
    assert await writer.revisions() == {}
    assert await writer.set_aside() == []


async def test_a_user_is_the_same_however_it_is_written(writer: DatabaseWriter) -> None:
    await writer.connection.execute("ALTER TABLE reconciliation_logs ALTER COLUMN user_id TYPE varchar")
    user = writer.user_id
    for ticket, text in enumerate((str(user), str(user).upper(), user.hex, "{" + str(user) + "}"), 1):
        await writer.sync(ticket=ticket, user_id=text)
    assert list(await writer.revisions()) == [user]
    assert set(await writer.book()) == {"1", "2", "3", "4"}


# ---------------------------------------------------------------- columns whose type the platform changed


READ_AS_TEXT: list[tuple[str, str, str, Any]] = [
    ("volume", "volume", "0.25", Decimal("0.25")),
    ("volume", "volume", " +2.5e-1 ", Decimal("0.25")),
    ("volume", "volume", ".25", Decimal("0.25")),
    ("volume", "volume", "1e400", None),
    ("volume", "volume", "1e99999999", None),
    ("volume", "volume", "٢", None),
    ("volume", "volume", "0x10", None),
    ("volume", "volume", "1_0", None),
    ("volume", "volume", "NaN", None),
    ("volume", "volume", "", None),
    ("volume", "volume", "9" * 200_000, None),
    ("created_at", "state_at", "2026-03-02T09:00:00Z", datetime(2026, 3, 2, 9, tzinfo=UTC)),
    ("created_at", "state_at", "2026-03-02T09:00:00", datetime(2026, 3, 2, 9, tzinfo=UTC)),
    ("created_at", "state_at", "2026-03-02T09:00:00.5+09:30", datetime(2026, 3, 1, 23, 30, 0, 500_000, UTC)),
    ("created_at", "state_at", "2024-02-29T00:00:00+00", datetime(2024, 2, 29, tzinfo=UTC)),
    ("created_at", "state_at", "2000-02-29T00:00:00+00", datetime(2000, 2, 29, tzinfo=UTC)),
    ("created_at", "state_at", "2025-12-31T23:59:59-00:44:30", datetime(2026, 1, 1, 0, 44, 29, tzinfo=UTC)),
    ("created_at", "state_at", "10000-01-01T13:59:59+14:00", "arrival"),
    ("created_at", "state_at", "1969-12-31T12:00:00-12", datetime(1970, 1, 1, tzinfo=UTC)),
    *(
        ("created_at", "state_at", text, "arrival")
        for text in (
            "2026-13-01T00:00:00", "2026-00-01T00:00:00", "2026-02-30T00:00:00Z", "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-01-32T00:00:00Z", "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:01Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:61Z", "2026-01-01T00:00:00+99:00",
            "2026-01-01T00:00:00+00:99", "2026-01-01T00:00:00 BC", "2026-01-01T00:00:00.Z", "٢٠٢٦-01-01T00:00:00Z",
            "20260-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "now", "infinity",
            "10000-02-31T00:00:00Z", "10000-01-01T00:00:00", "1969-12-31T23:59:59",
            "2026-01-01T00:00:00 America/New_York", "2026-01-01T00:00:00Z\n", "", "2026-01-01", "T", "9" * 99_999,
        )
    ),
    ("mt5_position_id", "ticket", " 12 ", 12),
    ("mt5_position_id", "ticket", "\t0012\n", 12),
    ("mt5_position_id", "ticket", "0" * 500 + "12", 12),
    # The copy of a long row has 600 characters of each value.
    ("mt5_position_id", "ticket", "0" * 99_999 + "12", None),
    *(
        ("mt5_position_id", "ticket", text, None)
        for text in ("\u00a012", "\u200312", "٢", "12.0", "+12", "1e3", "", " ", "0x1F", "9" * 99_999)
    ),
    ("matched", "matched", " 1 ", 1),
    ("matched", "matched", "true", 0),
    ("direction", "direction", "\tBUY\n", "buy"),
    ("direction", "direction", "true", None),
]  # fmt: skip


async def test_a_column_that_became_a_text_is_read_where_it_can_be(writer: DatabaseWriter) -> None:
    """All values are applied in one batch, so none of them raises an error."""
    for column in ("volume", "created_at", "mt5_position_id", "matched"):
        await writer.connection.execute(f"ALTER TABLE reconciliation_logs ALTER COLUMN {column} TYPE text")
    writer.applies = False
    accounts = [writer.of() for _ in READ_AS_TEXT]
    for account, (column, _, text, _) in zip(accounts, READ_AS_TEXT, strict=True):
        row: dict[str, Any] = {
            "created_at": account.begun.isoformat(),
            "user_id": account.user_id,
            column: text,
        }
        await account.sync(**row)
    arrived_at = {row["account"]: row["arrived_at"] for row in await writer.inbox()}
    await writer.connection.execute("SELECT guardwire.apply(0, 10000)")
    for account, (column, read, text, expected) in zip(accounts, READ_AS_TEXT, strict=True):
        position = next(iter(await account.rows("positions")), {"ticket": None})
        value = arrived_at[account.user_id] if expected == "arrival" else expected
        assert position[read] == value, (column, text[:50])


# ---------------------------------------------------------------- any json at all


def draw_json(chance: random.Random, depth: int = 0) -> Any:
    """Any value that jsonb holds."""
    texts: list[Callable[[], Any]] = [
        lambda: "".join(chr(chance.choice((9, 10, 32, 45, 46, 48, 49, 57, 84, 90, 0xA0, 0x660, 0x2003, 0x1F600)))
                        for _ in range(chance.randint(0, 40))),
        lambda: chance.choice(("NaN", "Infinity", "-Infinity", "infinity", "true", "sync", "close", "guard_trigger",
                               "gap", "1", " 7 ", "2026-03-02T09:00:00+00:00", "2026-02-31T09:00:00", "XAUUSD")),
        lambda: "x" * chance.choice((1, 64, 65, 500, 501, 5000)),
    ]  # fmt: skip
    scalars: list[Callable[[], Any]] = [
        lambda: None,
        lambda: chance.random() < 0.5,
        lambda: chance.randint(-(2**70), 2**70),
        lambda: chance.choice((0, 1, 2, 7, -1, 2**31, 2**63 - 1, 2**63)),
        lambda: chance.choice((0.1, 1e15, 1e-300, -1e300, 1955.75, 1e14)),
        *texts,
    ]
    if depth < 2 and chance.random() < 0.15:
        return [draw_json(chance, depth + 1) for _ in range(chance.randint(0, 3))]
    if depth < 2 and chance.random() < 0.15:
        return {"a": draw_json(chance, depth + 1)}
    return chance.choice(scalars)()


COLUMNS = {
    "l": [*SYNC, "mt5_position_id", "take_profit", "stop_loss", "created_at", "updated_at", "divergence_reason",
          "close_reason", "closed_price", "pnl_gbp", "error_message"],
    "e": ["equity", "balance", "currency", "cash_flow", "created_at"],
    "g": ["drawdown_warning_pct", "drawdown_critical_pct", "minimum_equity", "countdown_seconds", "gap_warning_pct",
          "gap_critical_pct", "spread_warning_pct", "spread_critical_pct", "alert_window_seconds",
          "sync_overdue_seconds", "equity_overdue_seconds", "peak_since"],
    "i": ["symbol", "contract_size", "quote_currency"],
    "x": ["base", "quote", "rate", "created_at"],
}  # fmt: skip
USUAL: dict[str, dict[str, Any]] = {
    "l": {**SYNC, "mt5_position_id": 1, "created_at": "2026-11-02T09:00:00+00:00"},
    "e": {"equity": 1000, "balance": 1000, "currency": "USD", "created_at": "2026-11-02T09:00:00+00:00"},
    "g": {},
    "i": {"symbol": "XAUUSD", "contract_size": 100, "quote_currency": "USD"},
    "x": {"base": "EUR", "quote": "USD", "rate": 1.1, "created_at": "2026-11-02T09:00:00+00:00"},
}


def draw_row(chance: random.Random, user_id: str) -> tuple[str, str, dict[str, Any]]:
    """Source, operation and copy of a row with some odd values; its id and account are usable."""
    source = chance.choice("lllleegix")
    row = {
        "id": str(random.Random(chance.random()).getrandbits(128).to_bytes(16, "big").hex()),
        "user_id": user_id,
    }
    row |= USUAL[source]
    for column in chance.sample(COLUMNS[source], chance.randint(1, min(3, len(COLUMNS[source])))):
        if chance.random() < 0.1:
            row.pop(column, None)
        else:
            row[column] = draw_json(chance)
    return source, chance.choice("iiiu"), row


@pytest.mark.parametrize("seed", range(4))
async def test_no_value_that_json_holds_keeps_a_row_from_being_applied(
    writer: DatabaseWriter, seed: int
) -> None:
    chance = random.Random(seed)
    accounts = [writer.of() for _ in range(10)]
    rows = [draw_row(chance, str(chance.choice(accounts).user_id)) for _ in range(1500)]
    await writer.connection.executemany(
        """INSERT INTO guardwire.inbox (account, source, operation, new_row, old_row, xid, arrived_at)
           SELECT CASE WHEN $1 IN ('i', 'x') THEN guardwire.no_account() ELSE ($3::json ->> 'user_id')::uuid END,
                  $1::text::"char", $2::text::"char", $3::json, CASE $2 WHEN 'u' THEN $3::json END,
                  pg_current_xact_id(), clock_timestamp()""",
        [(source, operation, json.dumps(row)) for source, operation, row in rows],
    )
    writer.applies = False
    # Batches that fail would be applied row by row, which takes long.
    while await writer.connection.fetchval("SELECT (guardwire.apply(0, 400)).applied"):
        pass
    # Some of these rows lack a column.
    assert {row["sqlstate"] for row in await writer.set_aside()} <= {"42703"}
    evaluations = await LIVE_QUERIES.evaluate(writer.connection, [each.user_id for each in accounts])
    for evaluation in evaluations:
        check_is_json(evaluation.state)

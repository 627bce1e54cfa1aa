"""Histories that a platform could write, and some that it should not, drawn by Hypothesis.

A history is a list of transactions on three users with few tickets, few symbols and few distinct times, so that ties,
reopenings, late rows and contradictions are frequent. Nothing here touches a database: `history_writer.py` writes the
histories.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from tests.end_to_end.statements import (
    CURRENCIES,
    SYMBOLS,
    Housekeeping,
    InsertEquity,
    InsertLog,
    InsertRate,
    RolledBack,
    SetInstrument,
    SetLimits,
    Statement,
    Transaction,
    UpdateLog,
    UpdateTicket,
)

# Most rows are of one user and one ticket, at one of few times, and differ in one or two columns.
_users = st.sampled_from([0, 0, 0, 1, 1, 2])
_seconds = st.sampled_from([0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 4.0, 5.0]) | st.floats(0, 60, allow_nan=False).map(
    lambda value: round(value, 6)
)
_tickets = st.sampled_from([1, 1, 1, 1, 2, 2, 3, 2**31 + 5, 2**63 - 1])
_prices = st.decimals(1, 3000, places=2) | st.decimals(0, 2, places=5)
_odd_numbers = st.sampled_from(
    [None, Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity"), Decimal(0), Decimal(-1),
     Decimal("1e15"),
     Decimal("999999999999999.99"), Decimal("0.0000000001"), Decimal("-0.005"), Decimal("1e300")]
)  # fmt: skip
_volumes = st.sampled_from([Decimal("0.01"), Decimal("0.25"), Decimal(1), Decimal(0)])
_words = st.sampled_from([None, "", "  ", "stop loss differs", "gap", "x" * 600])


def _weighted(*choices: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """One of ``choices``, with a frequency of its weight."""
    lots = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.sampled_from(range(len(lots))).flatmap(lambda drawn: lots[drawn])


def _mostly(
    usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any], times: int = 9
) -> st.SearchStrategy[Any]:
    """``usual`` is drawn ``times`` times as often as ``odd``."""
    return _weighted((times, usual), (1, odd))


def _column(
    usual: Any, common: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    """A column with ``usual`` in most rows, another value in some, and a forbidden one in few."""
    return _mostly(_mostly(st.just(usual), common, times=8), odd, times=20)


_position_columns = {
    "symbol": _column(
        0, st.integers(1, SYMBOLS - 1), st.sampled_from([None, "", "  ", "unknown", "X" * 300, "*", "lower"])
    ),
    "direction": _column(
        "buy", st.just("sell"), st.sampled_from(["0", "1", " BUY ", "Sell", "up", "", None])
    ),
    "volume": _column(Decimal("0.1"), _volumes, _odd_numbers),
    "entry_price": _column(Decimal(100), _prices, _odd_numbers),
    "current_price": _mostly(_prices, _odd_numbers),
    "take_profit": _column(None, st.just(Decimal(2000)), _odd_numbers),
    "stop_loss": _column(None, st.just(Decimal(1900)), _odd_numbers),
    "matched": _column(1, st.just(2), st.sampled_from([None, 0, 7, -1])),
    "divergence_reason": _column(None, st.just("volume differs"), _words),
    "error_message": _column(None, st.just("no answer"), _words),
    "status": _column("success", st.just("failed"), st.sampled_from([" FAILED ", "", "odd", None])),
    "pnl_gbp": _column(None, st.just(Decimal("12.34")), _odd_numbers),
}
_times = {
    "second": _mostly(_seconds, st.sampled_from([None, "infinity", "-infinity", "old"]), times=30),
    "took": st.sampled_from([None, 0.0, 0.042, 0.000001, -3.0, 7.0, "infinity"]),
}

_positions = st.fixed_dictionaries(
    {
        "user": _users,
        "ticket": _mostly(_tickets, st.sampled_from([None, 0, -7]), times=20),
        "event_type": st.sampled_from(
            ["sync"] * 9
            + ["divergence", "warning", "unmatched_position", " SYNC ", "close", "position_closed", "Close"]
        ),
        "close_reason": _mostly(st.none(), st.sampled_from(["", "  ", "stop_loss"]), times=12),
        **_position_columns,
        **_times,
    }
)
_triggers = st.fixed_dictionaries(
    {
        "user": _users,
        "ticket": st.sampled_from([None, 1]),
        "event_type": st.sampled_from(["guard_trigger", "GUARD_TRIGGER "]),
        "symbol": _mostly(st.integers(0, 1), st.sampled_from([None, "", "unknown"]), times=6),
        "divergence_reason": st.sampled_from(
            ["gap", "Price GAP", "spread", "Spread of 3", "liquidity", "odd", None]
        ),
        "entry_price": _mostly(
            st.sampled_from([Decimal(100), Decimal("99.5"), Decimal("1.08")]), _odd_numbers
        ),
        "current_price": _mostly(
            st.sampled_from(
                list(map(Decimal, ["100", "100.4", "100.5", "100.51", "101.5", "104.99", "105", "112"]))
            ),
            _odd_numbers,
        ),
        "matched": st.sampled_from([None, 0, 1]),
        "pnl_gbp": st.none(),
        **_times,
    }
)
_strangers = st.fixed_dictionaries(
    {
        "user": st.none() | _users,
        "ticket": st.sampled_from([1, None]),
        "event_type": st.sampled_from(["margin_call", None, "", "sync "]),
        "second": _seconds,
    }
)
log_rows = _weighted((12, _positions), (3, _triggers), (1, _strangers))

# Most equities are plausible after each other, and many stand at the edge of a level.
_equities = (
    st.decimals(5_000, 12_000, places=2)
    | st.sampled_from(list(map(Decimal, ["10000", "8600", "8500", "8500.01", "8000", "8000.50", "7000"])))
    | st.decimals(60, 60_000, places=2)
)
equity_rows = st.fixed_dictionaries(
    {
        "user": _users,
        "equity": _mostly(_equities, _odd_numbers),
        "balance": _mostly(st.sampled_from([Decimal(10_000), Decimal(800), None, Decimal(0)]), _odd_numbers),
        "currency": _column(1, st.integers(0, CURRENCIES - 1), st.sampled_from([None, "", " usd "])),
        "cash_flow": _mostly(
            st.just(Decimal(0)),
            st.sampled_from([Decimal(2_000), Decimal("-1500.50"), Decimal(-20_000), None, Decimal("NaN")]),
            times=4,
        ),
        "second": _mostly(_seconds, st.sampled_from([None, "infinity", 7_200.0]), times=30),
    }
)  # fmt: skip
_limits = st.fixed_dictionaries(
    {},
    optional={
        "drawdown_warning_pct": st.sampled_from([Decimal(5), Decimal(0), Decimal("12.5")]),
        "drawdown_critical_pct": st.sampled_from([Decimal("12.5"), Decimal(30), Decimal(100)]),
        "minimum_equity": st.sampled_from([Decimal(0), Decimal(5_000)]),
        "countdown_seconds": st.sampled_from([0, 600]),
        "gap_warning_pct": st.sampled_from([Decimal(0), Decimal("0.5")]),
        "gap_critical_pct": st.sampled_from([Decimal(5), Decimal(12)]),
        "spread_warning_pct": st.just(Decimal("0.4")),
        "alert_window_seconds": st.sampled_from([60, 7_200]),
        "equity_overdue_seconds": st.sampled_from([30, 7_200]),
        "peak_since": st.sampled_from([None, None, 3.0, 250.0]),
    },
)
_update_columns = st.fixed_dictionaries(
    {},
    optional={
        "close_reason": st.sampled_from([None, "stop_loss", ""]),
        **{
            name: _position_columns[name]
            for name in ("current_price", "matched", "status", "stop_loss", "error_message")
        },
        "took": _times["took"],
    },
).filter(bool)

_one_row = st.builds(InsertLog, st.lists(log_rows, min_size=1, max_size=1).map(tuple))
_several_rows = st.builds(InsertLog, st.lists(log_rows, min_size=2, max_size=5).map(tuple))
_equity = st.builds(InsertEquity, st.lists(equity_rows, min_size=1, max_size=3).map(tuple))
_rate = st.builds(
    InsertRate,
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from([1, 1, 0, 2]),
    _mostly(st.decimals("0.01", 200, places=3) | st.sampled_from([Decimal(3), Decimal(7)]), _odd_numbers),
    st.sampled_from([0.0, 0.0, 1.0, 2.0, None]),
)
_instrument = st.builds(
    SetInstrument,
    st.integers(0, SYMBOLS - 1),
    st.sampled_from([Decimal(100), Decimal("0.5"), Decimal(100_000)]),
    st.integers(0, CURRENCIES - 1),
)
_simple: st.SearchStrategy[Statement] = _weighted(
    (8, _one_row),
    (4, _several_rows),
    (3, _equity),
    (2, st.builds(UpdateLog, st.integers(0, 50), _update_columns)),
    (1, st.builds(UpdateTicket, _users, _tickets, _update_columns)),
    (1, _instrument),
    (1, _rate),
)
# A change of limits is a transaction of its own, because its order among rows of one transaction would be undefined.
_alone: st.SearchStrategy[Statement] = _weighted(
    (4, st.builds(SetLimits, _users, st.none() | _limits)), (1, st.just(Housekeeping()))
)
_statements = _mostly(_simple, st.builds(RolledBack, st.lists(_simple, min_size=1, max_size=2).map(tuple)))
_insertions = _weighted((3, _one_row), (1, _several_rows), (1, _equity), (1, _rate))


def _transaction(statements: st.SearchStrategy[Statement], most: int, **fate: Any) -> st.SearchStrategy[Any]:
    return st.builds(Transaction, st.lists(statements, min_size=1, max_size=most).map(tuple), **fate)


transactions: st.SearchStrategy[Transaction] = _weighted(
    (1, st.builds(Transaction, st.tuples(_alone))),
    (6, _transaction(_statements, 1)),
    (4, _transaction(_statements, 4)),
    (1, _transaction(_statements, 2, fate=st.just("rollback"))),
    # Only insertions stay open. An open update holds a lock on its row, and another writer of the row would wait for
    # ever.
    (2, _transaction(_insertions, 3, fate=st.just("late"), later=st.integers(1, 4))),
)
histories: st.SearchStrategy[list[Transaction]] = st.one_of(
    st.lists(transactions, min_size=1, max_size=8), st.lists(transactions, min_size=10, max_size=25)
)

#: The same without statements whose result depends on the time of a node's housekeeping.
histories_before_a_node: st.SearchStrategy[list[Transaction]] = histories.map(
    lambda history: [transaction for transaction in history if not _hangs_on_housekeeping(transaction)]
)


def _hangs_on_housekeeping(transaction: Transaction) -> bool:
    return any(
        isinstance(statement, Housekeeping)
        or (isinstance(statement, SetLimits) and (statement.columns or {}).get("alert_window_seconds") == 60)
        for statement in transaction.statements
    )

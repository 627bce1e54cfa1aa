"""The applier makes account state of the inbox: in batches, in order within an account, each row once."""

from __future__ import annotations

import asyncio
import json
import random
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from queries.capture import housekeep, rebuild
from tests.inbox import apply_batch
from tests.queries.conftest import Connect
from tests.queries.database_writer import DatabaseWriter

RACE_SECONDS = 2.0


@pytest.fixture
async def writer(writer: DatabaseWriter) -> DatabaseWriter:
    """Here a test says when the inbox is applied."""
    writer.applies = False
    return writer


async def write_syncs(writer: DatabaseWriter, count: int, *, tickets: int = 10) -> None:
    """Write ``count`` syncs in one statement, one a millisecond."""
    await writer.execute(
        """INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched, current_price, created_at)
           SELECT $1, 1 + n % $3::integer, 'sync', 1, n, $4::timestamptz + n * interval '1 millisecond'
           FROM generate_series(1, $2::integer) AS n""",
        writer.user_id,
        count,
        tickets,
        writer.at(0),
    )


# ---------------------------------------------------------------- revisions and arrivals


async def test_each_batch_gives_an_account_one_revision_and_revisions_grow(writer: DatabaseWriter) -> None:
    seen = []
    for second in range(10):
        await writer.sync(second)
        await writer.sync(second, ticket=2)
        await writer.apply()
        seen.append(await writer.revision())
        (newest,) = {row["revision"] for row in (await writer.rows("arrivals", "revision"))[-2:]}
        assert newest == seen[-1]
    assert seen == sorted(set(seen))
    assert seen[-1] < 2**53


async def test_a_clock_that_was_set_back_does_not_lower_a_revision(writer: DatabaseWriter) -> None:
    await writer.sync()
    await writer.apply()
    ahead = 2**52
    await writer.connection.execute("UPDATE guardwire.accounts SET revision = $1", ahead)
    for ticket in (1, 2):
        await writer.sync(1, ticket=ticket)
        await writer.apply()
    assert await writer.revision() == ahead + 2


async def test_arrivals_are_recorded_in_the_order_of_the_statements(writer: DatabaseWriter) -> None:
    async with writer.connection.transaction():
        rows = [
            await writer.sync(number, ticket=number % 5 + 1, current_price=number + 1)
            for number in range(300)
        ]
    inbox = await writer.inbox()
    await writer.apply(batch_rows=1000)
    arrivals = await writer.rows("arrivals", "ordinal")
    assert [row["log_id"] for row in arrivals] == rows
    assert [row["ordinal"] for row in arrivals] == list(range(1, 301))
    assert [row["arrived_at"] for row in arrivals] == [row["arrived_at"] for row in inbox]
    assert [(await writer.position(ticket))["current_price"] for ticket in (1, 5)] == [296, 300]


async def test_an_accounts_rows_count_when_they_arrived_and_not_when_they_were_applied(
    writer: DatabaseWriter,
) -> None:
    await writer.sync(created_at=None)
    await writer.equity(500, created_at=None)
    await writer.connection.execute("UPDATE guardwire.inbox SET arrived_at = $1", writer.at(5))
    await writer.apply()
    position, account = await writer.position(), await writer.account()
    assert position["state_at"] == account["last_sync_arrived_at"] == account["equity_at"] == writer.at(5)


async def test_a_batch_says_what_it_did(writer: DatabaseWriter) -> None:
    other = writer.of()
    for each in (writer, other):
        await each.sync()
    await writer.apply()
    await writer.sync(1)
    oldest = (await writer.inbox())[0]["arrived_at"]
    await other.close(1)
    await writer.rate("EUR", "USD", 1)
    batch = await apply_batch(writer.connection)
    assert (batch["applied"], batch["set_aside"], batch["oldest_arrived_at"]) == (3, 0, oldest)
    revisions = await writer.revisions()
    assert dict(zip(batch["accounts"], batch["revisions"], strict=True)) == revisions
    deltas = dict(zip(batch["accounts"], batch["deltas"], strict=True))
    assert deltas[writer.user_id].startswith(f"1 {writer.user_id} ")
    assert deltas[other.user_id] is None
    empty = await apply_batch(writer.connection)
    assert tuple(empty) == (0, 0, None, None, None, None)


@pytest.mark.parametrize(
    ("equity", "setting"),
    [(9_900, "off"), (8_400, "off"), (7_000, "on")],
    ids=["normal", "warning", "critical"],
)
async def test_a_batch_that_raises_or_clears_a_breach_is_durable_before_it_is_answered(
    writer: DatabaseWriter, equity: int, setting: str
) -> None:
    await writer.equity(10_000)
    await writer.apply()
    for second, amount in enumerate((equity, 9_950), 1):
        await writer.equity(amount, second)
        async with writer.connection.transaction():
            await writer.connection.execute("SET LOCAL synchronous_commit = off")
            await writer.apply()
            assert await writer.connection.fetchval("SHOW synchronous_commit") == setting


# ---------------------------------------------------------------- order


async def test_rows_of_one_account_and_transaction_are_one_batch(writer: DatabaseWriter) -> None:
    """A transaction is a consistent cut: however small a batch is to be, no frame shows half of one."""
    others = [writer.of() for _ in range(5)]
    async with writer.connection.transaction():
        for ticket in range(1, 31):
            await writer.sync(ticket=ticket)
            for each in others:
                await each.sync(ticket=ticket)
    await writer.sync(1, ticket=31)
    sizes = [0]
    while set(sizes) != {30}:
        applied = (await apply_batch(writer.connection, batch_rows=6))["applied"]
        sizes = [len(await each.book()) for each in (writer, *others)]
        assert applied >= 30
        assert sizes[0] == 30
        assert set(sizes) <= {0, 30}
    await apply_batch(writer.connection, batch_rows=6)
    assert len(await writer.book()) == 31


@pytest.mark.parametrize("seed", range(8))
async def test_transactions_that_take_turns_are_whole_and_in_order_in_every_batch(
    writer: DatabaseWriter, connect: Connect, seed: int
) -> None:
    """A batch that holds a part of one transaction would have to leave out the rows of another one in between."""
    chance = random.Random(seed)
    accounts = [writer.of() for _ in range(3)]
    connections = [await connect() for _ in range(3)]
    transactions = [each.transaction() for each in connections]
    for each in transactions:
        await each.start()
    for _ in range(60):
        account, index = chance.choice(accounts), chance.randrange(3)
        await DatabaseWriter(connections[index], account.user_id, applies=False).sync()
        if chance.random() < 0.2:
            await transactions[index].commit()
            transactions[index] = connections[index].transaction()
            await transactions[index].start()
    for each in transactions:
        await each.commit()
    waited = {UUID(json.loads(row["new_row"])["id"]): row for row in await writer.inbox()}
    while (await apply_batch(writer.connection, batch_rows=chance.randint(1, 8)))["applied"]:
        pass
    assert await writer.inbox() == []
    for account in accounts:
        arrivals = await account.rows("arrivals", "revision, ordinal")
        rows = [waited[arrival["log_id"]] for arrival in arrivals]
        assert [row["nth"] for row in rows] == sorted(row["nth"] for row in rows)
        revisions: dict[Any, set[int]] = {}
        for row, arrival in zip(rows, arrivals, strict=True):
            revisions.setdefault(row["xid"], set()).add(arrival["revision"])
        assert all(len(each) == 1 for each in revisions.values())


async def test_accounts_share_a_batch_and_the_oldest_row_is_always_in_it(writer: DatabaseWriter) -> None:
    """The places that accounts with few rows leave free go to those that have more."""
    small = [writer.of() for _ in range(4)]
    large = [writer.of() for _ in range(2)]
    for each in large:
        for number in range(100):
            await each.sync(number)
    for each in small:
        await each.sync()
    await apply_batch(writer.connection, batch_rows=60)
    assert [(await each.account())["total_syncs"] for each in small] == [1] * 4
    assert [(await each.account())["total_syncs"] for each in large] == [28, 28]
    batches = 1
    while waiting := await writer.inbox():
        oldest = min(waiting, key=lambda row: row["nth"])
        await apply_batch(writer.connection, batch_rows=60)
        assert oldest["nth"] not in {row["nth"] for row in await writer.inbox()}
        batches += 1
    assert batches <= 5


async def test_rows_of_new_accounts_do_not_keep_a_large_one_from_its_turn(writer: DatabaseWriter) -> None:
    """Accounts with few rows come first, but the account with the oldest row is before them."""
    for number in range(200):
        await writer.sync(number)
    for _ in range(30):
        for _ in range(20):
            await writer.of().sync()
        before = len([row for row in await writer.inbox() if row["account"] == writer.user_id])
        await apply_batch(writer.connection, batch_rows=10)
        after = len([row for row in await writer.inbox() if row["account"] == writer.user_id])
        if not after:
            return
        assert after < before
    pytest.fail(f"{after} rows still wait")


async def test_a_transaction_of_more_than_5000_rows_of_an_account_may_be_several_batches(
    writer: DatabaseWriter,
) -> None:
    await write_syncs(writer, 6000)
    first = await apply_batch(writer.connection, batch_rows=100)
    assert 5000 <= first["applied"] < 6000
    await writer.apply(batch_rows=100)
    assert (await writer.account())["total_syncs"] == 6000


async def test_one_accounts_20000_rows_do_not_hold_up_another_accounts_one_row(
    writer: DatabaseWriter,
) -> None:
    other = writer.of()
    await write_syncs(writer, 20_000)
    await other.sync()
    await apply_batch(writer.connection, batch_rows=500)
    assert list(await other.book()) == ["1"]
    assert (await writer.account())["total_syncs"] < 20_000


async def test_a_row_in_the_midst_of_another_accounts_20000_is_found(writer: DatabaseWriter) -> None:
    """It is neither among the oldest rows nor the newest: batches look for it at places taken by chance."""
    await writer.connection.execute("SELECT setseed(0.5)")
    other = writer.of()
    for number in range(40):
        await write_syncs(writer, 500)
        if number == 25:
            await other.sync()
    batches = 0
    while not await other.book():
        await apply_batch(writer.connection, batch_rows=500)
        batches += 1
    assert batches <= 20
    assert (await writer.account())["total_syncs"] <= 10_500 + 500


async def test_a_row_counts_when_its_transaction_commits(writer: DatabaseWriter, connect: Connect) -> None:
    """Its statement ran first; what was applied meanwhile is earlier all the same."""
    late = DatabaseWriter(await connect(), writer.user_id, applies=False)
    late.begun = writer.begun
    async with late.connection.transaction():
        await late.sync(volume="0.8")
        await writer.sync(volume="0.4")
        await writer.apply()
        assert (await writer.position())["volume"] == Decimal("0.4")
    assert (await writer.inbox())[0]["nth"] == 1
    await writer.apply()
    assert (await writer.position())["volume"] == Decimal("0.8")
    assert [row["ordinal"] for row in await writer.rows("arrivals")] == [1, 1]


async def test_rows_of_sources_that_take_turns_are_applied_in_order(writer: DatabaseWriter) -> None:
    """Limits count for the equity after them, and equity for the currency of the positions after it."""
    await writer.equity(10_000)
    await writer.sync(symbol="ACME")
    await writer.set_limits(drawdown_warning_pct=1, drawdown_critical_pct=2)
    breach = await writer.equity(9_700, 1)
    await writer.set_limits(drawdown_warning_pct=15, drawdown_critical_pct=20)
    await writer.equity(9_600, 2, currency="CHF")
    await writer.sync(1, ticket=2, symbol="ACME")
    await writer.apply()
    (latched,) = await writer.rows("breaches")
    assert (latched["breach_id"], latched["observed_pct"]) == (str(breach), 3)
    assert latched["cleared_at"] is not None
    assert {(await writer.position(ticket))["quote_currency"] for ticket in (1, 2)} == {"CHF"}


#: Columns that differ between two accounts, or between two batches.
OWN = {
    "user_id",
    "position_id",
    "revision",
    "base_revision",
    "state_revision",
    "state_ordinal",
    "last_sync_arrived_at",
    "sync_due_at",
    "equity_row",
    "equity_arrived_at",
    "equity_fresh_at",
    "equity_due_at",
}
#: The same, of an account's peak.
OWN_OF_PEAK = {"row_id", "arrived_at"}


async def derived(writer: DatabaseWriter) -> dict[str, Any]:
    """The derived rows of an account, without the columns in `OWN` and the fields in `OWN_OF_PEAK`.

    Limits count at their arrival, so times that they cause are left out too.
    """
    account = await writer.account()
    account["liquidation_at"] = account["liquidation_at"] is not None
    account["peak"] = {name: value for name, value in account["peak"].items() if name not in OWN_OF_PEAK}
    return {
        "account": {name: value for name, value in account.items() if name not in OWN},
        "positions": [
            {name: value for name, value in position.items() if name not in OWN}
            for position in await writer.rows("positions", "ticket")
        ],
        "events": await writer.events(),
        "breaches": [
            (row["kind"], row["cleared_at"] is None, row["observed_pct"])
            for row in await writer.rows("breaches", "raised_at, kind")
        ],
        "alerts": [
            (row["symbol"], row["alert_type"]) for row in await writer.rows("market_alerts", "symbol")
        ],
    }


async def write_rows_of_every_kind(writer: DatabaseWriter) -> None:
    for second in range(6):
        row_id = await writer.sync(second, ticket=second % 2 + 1, current_price=1950 + second)
        await writer.equity(10_000 - second * 600, second, cash_flow=-100 if second == 3 else 0)
        if second == 1:
            await writer.guard("gap", 100, 120, second)
        if second == 2:
            await writer.close(second, ticket=1)
            await writer.equity(11_000, 0.5)
        if second == 3:
            await writer.set_limits(drawdown_critical_pct=80, drawdown_warning_pct=70, gap_critical_pct=50)
        if second == 4:
            await writer.update(row_id, close_reason="manual")
            await writer.execute("DELETE FROM guard_limits")
            await writer.equity(9_999, 2.5, cash_flow=1)


async def test_what_rows_come_to_does_not_depend_on_the_size_of_batches(writer: DatabaseWriter) -> None:
    at_once = writer.of()
    at_once.applies = True
    await write_rows_of_every_kind(at_once)
    expected = await derived(at_once)
    assert len(expected["breaches"]) == 4
    for batch_rows in (1, 2, 3, 7, 1000):
        later = writer.of()
        await write_rows_of_every_kind(later)
        await later.apply(batch_rows=batch_rows)
        assert await derived(later) == expected, batch_rows


# ---------------------------------------------------------------- plain rows


PLAIN: list[dict[str, Any]] = [
    {},
    {"current_price": "1951.123456"},
    {"current_price": "-37.63"},
    {"updated_at": 1.5},
    {"updated_at": 0.5},
    {"slippage_pips": "0.4"},
    {"volume": "0.10"},
    {"approval_id": UUID(int=5)},
]

NOT_PLAIN: list[dict[str, Any]] = [
    {"volume": "0.2"},
    {"symbol": "EURUSD"},
    {"direction": "sell"},
    {"entry_price": 1},
    {"take_profit": 2000},
    {"stop_loss": 1900},
    {"matched": 2},
    {"matched": None},
    {"divergence_reason": "volume"},
    {"event_type": "Sync"},
    {"event_type": "close"},
    {"event_type": "guard_trigger"},
    {"close_reason": ""},
    {"error_message": "late"},
    {"status": "failed"},
    {"status": " Failed"},
    {"ticket": 8},
    {"ticket": None},
    {"second": -1},
    {"created_at": None},
    {"current_price": None},
    {"current_price": "NaN"},
    {"current_price": "1e9"},
    {"current_price": 0},
]

PLAIN_EQUITY: list[dict[str, Any]] = [
    {},
    {"equity": 10_100},
    {"equity": 8_600},
    {"balance": 5},
    {"second": 0},
]

NOT_PLAIN_EQUITY: list[dict[str, Any]] = [
    {"equity": 8_400},
    {"equity": 50},
    {"equity": -1},
    {"equity": None},
    {"balance": None},
    {"currency": "EUR"},
    {"currency": None},
    {"cash_flow": 5},
    {"second": -1},
]


async def is_plain(writer: DatabaseWriter) -> bool:
    """Whether a batch takes what waits for plain."""
    (delta,) = (await apply_batch(writer.connection))["deltas"]
    return delta is not None


async def opened(writer: DatabaseWriter) -> DatabaseWriter:
    """A writer of an account that has an open position and equity."""
    other = writer.of()
    await other.sync(0, updated_at=other.at(0.5))
    await other.equity(10_000)
    await other.apply()
    return other


@pytest.mark.parametrize(("rows", "plain"), [(PLAIN, True), (NOT_PLAIN, False)], ids=["plain", "not plain"])
async def test_a_sync_that_says_nothing_but_prices_and_times_is_plain(
    writer: DatabaseWriter, rows: list[dict[str, Any]], plain: bool
) -> None:
    for columns in rows:
        account = await opened(writer)
        row: dict[str, Any] = {
            name: account.at(value) if name == "updated_at" else value for name, value in columns.items()
        }
        row_id = await account.sync(**{"second": 1, **row})
        assert await is_plain(account) == plain, columns
        assert row_id in {row["log_id"] for row in await account.rows("arrivals")}


@pytest.mark.parametrize(
    ("rows", "plain"), [(PLAIN_EQUITY, True), (NOT_PLAIN_EQUITY, False)], ids=["plain", "not plain"]
)
async def test_equity_that_changes_no_level_is_plain(
    writer: DatabaseWriter, rows: list[dict[str, Any]], plain: bool
) -> None:
    for columns in rows:
        account = await opened(writer)
        await account.equity(**{"equity": 9_900, "second": 1, **columns})
        assert await is_plain(account) == plain, columns


@pytest.mark.parametrize("state", ["source = 'silent'", "error_message = 'no answer'"])
async def test_a_sync_of_an_account_in_another_state_is_not_plain(writer: DatabaseWriter, state: str) -> None:
    account = await opened(writer)
    await writer.connection.execute(f"UPDATE guardwire.accounts SET {state}")
    await account.sync(1)
    assert not await is_plain(account)


async def test_an_account_is_plain_only_if_all_of_its_rows_are(writer: DatabaseWriter) -> None:
    for columns in ({"event_type": "heartbeat"}, {"second": 0.5}, {"volume": "0.2"}):
        account = await opened(writer)
        await account.sync(1)
        await account.sync(**columns)
        assert not await is_plain(account), columns
    account = await opened(writer)
    row_id = await account.sync(1)
    await account.update(row_id, current_price=1)
    assert not await is_plain(account)
    account = await opened(writer)
    await account.sync(1)
    await account.set_limits(minimum_equity=1)
    assert not await is_plain(account)


async def test_a_position_of_more_than_this_world_is_never_plain(writer: DatabaseWriter) -> None:
    await writer.sync(volume="1e12")
    await writer.apply()
    await writer.sync(1, volume="1e12", current_price="999999")
    assert not await is_plain(writer)
    assert (await writer.position())["pnl"] is None


@pytest.mark.parametrize("direction", ["buy", "sell"])
async def test_plain_rows_and_others_come_to_the_same(writer: DatabaseWriter, direction: str) -> None:
    """The other account's batches also hold a row that is nothing, and so are never plain."""
    other = writer.of()
    prices = ["1950.5", "1951.123456789", "0.000000000000000123", "1949.99995", "999999.99"]
    deltas = []
    for second, price in enumerate(prices):
        columns = {
            "updated_at": writer.at(second + 0.004), "direction": direction, "current_price": price,
            "entry_price": "1950.50", "volume": "0.13",
        }  # fmt: skip
        for each in (writer, other):
            await each.sync(second, **columns)
            await each.equity(10_000 + 7 * second % 3, second)
        await other.sync(event_type="nothing")
        deltas += (await apply_batch(writer.connection))["deltas"]
        assert await derived(writer) == await derived(other)
    # The first opens the position, and the third is nothing once it is rounded.
    assert len([delta for delta in deltas if delta is not None]) == len(prices) - 2


# ---------------------------------------------------------------- rows that cannot be applied


BREAK = "ALTER TABLE guardwire.positions ADD CONSTRAINT broken CHECK (symbol <> 'BROKEN')"
MEND = "ALTER TABLE guardwire.positions DROP CONSTRAINT broken"


async def test_a_row_that_cannot_be_applied_is_set_aside_and_later_rows_go_on(writer: DatabaseWriter) -> None:
    other = writer.of()
    await writer.connection.execute(BREAK)
    await writer.sync(1, current_price=1)
    broken = await writer.sync(2, ticket=2, symbol="BROKEN")
    await writer.sync(3, current_price=3)
    await other.sync()
    copy = (await writer.inbox())[1]
    await writer.apply()
    assert await writer.inbox() == []
    (row,) = await writer.set_aside()
    assert {name: row[name] for name in copy} == copy
    assert str(broken) in row["new_row"]
    assert row["sqlstate"] == "23514"
    assert "broken" in row["reason"]
    assert (await writer.book())["1"]["current_price"] == 3
    assert list(await other.book()) == ["1"]


async def test_an_account_with_a_row_set_aside_is_whole_again_when_it_is_rebuilt(
    writer: DatabaseWriter,
) -> None:
    await writer.connection.execute(BREAK)
    await writer.sync(2, ticket=2, symbol="BROKEN")
    await writer.sync(3)
    await writer.apply()
    await writer.connection.execute(MEND)
    await rebuild(writer.connection, writer.user_id)
    assert set(await writer.book()) == {"1", "2"}
    assert await writer.set_aside() == []


async def test_a_plain_row_that_cannot_be_applied_is_set_aside_too(writer: DatabaseWriter) -> None:
    await writer.sync()
    await writer.apply()
    await writer.connection.execute(
        "ALTER TABLE guardwire.positions ADD CONSTRAINT broken CHECK (current_price <> 13)"
    )
    for second, price in enumerate((12, 13), 1):
        await writer.sync(second, current_price=price)
    await writer.apply()
    assert len(await writer.set_aside()) == 1
    assert (await writer.position())["current_price"] == 12
    assert (await writer.account())["total_syncs"] == 2


async def test_a_row_of_the_reference_that_cannot_be_applied_is_set_aside_too(writer: DatabaseWriter) -> None:
    await writer.connection.execute(
        "ALTER TABLE guardwire.fx_current ADD CONSTRAINT broken CHECK (rate <> 13);"
        "ALTER TABLE guardwire.contracts ADD CONSTRAINT broken CHECK (contract_size <> 13)"
    )
    await writer.rate("EUR", "USD", 13)
    await writer.execute("UPDATE public.instruments SET contract_size = 13 WHERE symbol = 'XAUUSD'")
    await writer.sync()
    await writer.rate("EUR", "GBP", 1)
    await writer.apply()
    assert [row["source"] for row in await writer.set_aside()] == [b"x", b"i"]
    assert (await writer.position())["contract_size"] == 100
    assert await writer.value("SELECT base || quote FROM guardwire.fx_current") == "EURGBP"


async def test_a_batch_that_fails_leaves_all_of_its_rows(writer: DatabaseWriter) -> None:
    other = writer.of()
    await writer.connection.execute(BREAK)
    await other.sync()
    await writer.sync(symbol="BROKEN")
    before = await writer.inbox()
    with pytest.raises(asyncpg.CheckViolationError):
        await writer.connection.execute("SELECT guardwire.apply(0, 1000)")
    assert await writer.inbox() == before
    assert await other.book() == {}


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "53100", "53200", "55P03", "57014", "57P01", "58030"])
@pytest.mark.parametrize("function", ["apply", "apply_singly"])
async def test_an_error_that_passes_sets_no_row_aside(
    writer: DatabaseWriter, function: str, sqlstate: str
) -> None:
    await writer.sync(0)
    await writer.sync(1)
    mend = await writer.value("SELECT pg_get_functiondef('guardwire.apply_syncs'::regproc)")
    await writer.connection.execute(f"""
        CREATE OR REPLACE FUNCTION guardwire.apply_syncs(rows guardwire.log_row[]) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{sqlstate}'; END $$""")
    with pytest.raises(asyncpg.PostgresError, match="on purpose"):
        await writer.connection.execute(f"SELECT guardwire.{function}(0, 1000)")
    assert len(await writer.inbox()) == 2
    assert await writer.set_aside() == []
    await writer.connection.execute(mend)
    await writer.apply()
    assert (await writer.account())["total_syncs"] == 2


async def test_a_batch_waits_for_whoever_has_locked_an_account(
    writer: DatabaseWriter, connect: Connect
) -> None:
    """Housekeeping and a rebuild do, for as long as they take; a batch that is cut short leaves its rows."""
    await writer.sync()
    await writer.apply()
    holder = await connect()
    await writer.sync(1)
    async with holder.transaction():
        await holder.execute("SELECT FROM guardwire.accounts FOR UPDATE")
        await writer.connection.execute("SET statement_timeout = '100ms'")
        for function in ("apply", "apply_singly"):
            with pytest.raises(asyncpg.QueryCanceledError):
                await writer.connection.execute(f"SELECT guardwire.{function}(0, 1000)")
        await writer.connection.execute("RESET statement_timeout")
        assert len(await writer.inbox()) == 1
        applying = asyncio.create_task(writer.apply(), name="applying")
    assert await applying == 1
    assert await writer.set_aside() == []


# ---------------------------------------------------------------- many writers


async def write_for_a_while(connection: Any, users: list[UUID], seed: int) -> int:
    """Commits of rows of five random accounts, in random order; how many."""
    chance, commits = random.Random(seed), 0
    deadline = asyncio.get_running_loop().time() + RACE_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        async with connection.transaction():
            for user_id in chance.sample(users, 5):
                writer = DatabaseWriter(connection, user_id, applies=False)
                await writer.sync(ticket=chance.randint(1, 5), volume=chance.randint(1, 9))
            if chance.random() < 0.3:
                writer = DatabaseWriter(connection, chance.choice(users), applies=False)
                await writer.equity(chance.randint(50, 9999), currency="GBP")
        commits += 1
    return commits


async def test_of_many_writers_every_row_is_applied_once_and_every_revision_is_whole(
    writer: DatabaseWriter, connect: Connect
) -> None:
    """While they write, the applier applies, housekeeping runs, and a reader watches revisions."""
    users = [uuid4() for _ in range(20)]
    applier, watcher = DatabaseWriter(await connect()), await connect()
    seen: dict[UUID, list[int]] = {user_id: [] for user_id in users}
    writing = asyncio.gather(*[write_for_a_while(await connect(), users, seed) for seed in range(4)])

    async def apply() -> None:
        while not writing.done():
            await applier.apply(batch_rows=50)
            await housekeep(applier.connection)

    async def watch() -> None:
        while not writing.done():
            rows = await watcher.fetch("""
                SELECT a.user_id, a.revision, a.total_syncs,
                       count(*) FILTER (WHERE r.source = 'l') AS syncs, max(r.revision) AS last
                FROM guardwire.accounts AS a JOIN guardwire.arrivals AS r USING (user_id) GROUP BY a.user_id""")
            for row in rows:
                assert (row["total_syncs"], row["revision"]) == (row["syncs"], row["last"])
                seen[row["user_id"]].append(row["revision"])

    async with asyncio.TaskGroup() as group:
        group.create_task(apply(), name="apply")
        group.create_task(watch(), name="watch")
    await applier.apply()
    assert sum(writing.result()) > 20
    assert all(revisions == sorted(revisions) for revisions in seen.values())
    counts = await watcher.fetchrow("""
        SELECT (SELECT count(*) FROM public.reconciliation_logs) AS rows,
               (SELECT count(DISTINCT log_id) FROM guardwire.arrivals WHERE source = 'l') AS arrivals,
               (SELECT sum(total_syncs) FROM guardwire.accounts) AS syncs,
               (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()) AS deadlocks""")
    assert counts["rows"] == counts["arrivals"] == counts["syncs"]
    assert counts["deadlocks"] == 0
    assert await applier.set_aside() == []
    # Rows of one account and transaction are applied at one revision.
    assert (
        await watcher.fetchval("""
        SELECT max(revisions) FROM (
            SELECT count(DISTINCT a.revision) AS revisions
            FROM guardwire.arrivals AS a JOIN public.reconciliation_logs AS l ON l.id = a.log_id
            WHERE a.source = 'l' GROUP BY a.user_id, l.xmin::text) AS o""")
        == 1
    )
    # The state of a position is its newest row; among rows of one time it is the one that arrived last.
    differing = await watcher.fetch("""
        SELECT p.user_id, p.ticket FROM guardwire.positions AS p
        CROSS JOIN LATERAL (
            SELECT l.volume FROM guardwire.arrivals AS a JOIN public.reconciliation_logs AS l ON l.id = a.log_id
            WHERE a.user_id = p.user_id AND a.source = 'l' AND l.mt5_position_id = p.ticket
            ORDER BY l.created_at DESC, a.revision DESC, a.ordinal DESC LIMIT 1) AS last
        WHERE p.volume <> last.volume""")
    assert differing == []

"""What a commit tells of itself is what a read of it would have shown, and only nodes can hear it."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from queries.channels import LIVE_QUERIES
from queries.told import ForgedTellingError, Told, moment, read_told, state_after, told_code
from realtime.patch import diff
from tests.queries.conftest import Connect
from tests.queries.ears import Ears
from tests.queries.ledger import Ledger

#: PostgreSQL refuses payloads of 8,000 bytes, and with them the commit.
LIMIT_BYTES = 8000


@pytest.fixture
async def ears(connect: Connect) -> Ears:
    return await Ears.open(await connect())


async def evaluated(ledger: Ledger, user: UUID) -> Any:
    (found,) = await LIVE_QUERIES.evaluate(ledger.connection, [user])
    return found


async def opened(ledger: Ledger, user: UUID, tickets: int = 3, **columns: Any) -> None:
    for ticket in range(1, tickets + 1):
        await ledger.log(user, 0, mt5_position_id=ticket, **columns)


async def follow(ledger: Ledger, ears: Ears, user: UUID, before: Any) -> Any:
    """The evaluation after what was written since ``before``, once it is found to be what was told."""
    after = await evaluated(ledger, user)
    (told,) = ears.told_of(await ears.all(ledger.connection))
    assert (told.user, told.base, told.revision) == (str(user), before.revision, after.revision)
    assert state_after(before.state, told) == (after.state, diff(before.state, after.state))
    return after


PRICES = ["1950.5", "1951.123456789", "0.000000000000000123", "1949.99995", "999999.99", "1950.5"]


@pytest.mark.parametrize("direction", ["buy", "sell"])
@pytest.mark.parametrize("currency", ["USD", "GBP", "JPY", "CHF", None])
async def test_a_plain_sync_tells_the_state_that_a_read_shows(
    ledger: Ledger, ears: Ears, user: UUID, direction: str, currency: str | None
) -> None:
    """In the currency of the quote, by a rate either way, without a rate, and without a currency at all."""
    await ledger.insert("fx_rates", base="USD", quote="GBP", rate="0.7777", created_at=ledger.at(0))
    await ledger.insert("fx_rates", base="JPY", quote="USD", rate="0.0067", created_at=ledger.at(0))
    if currency:
        await ledger.equity(user, 9500, balance="7777.77", currency=currency)
    await opened(ledger, user, direction=direction)
    before = await evaluated(ledger, user)
    await ears.all(ledger.connection)
    for second, price in enumerate(PRICES, 1):
        row = {"current_price": price, "direction": direction}
        await ledger.log(user, second, updated_at=ledger.at(second + second % 2 * 0.042), **row)
        before = await follow(ledger, ears, user, before)
        async with ledger.connection.transaction():
            for ticket in (1, 2, 3):
                await ledger.log(user, second + 0.5, mt5_position_id=ticket, **row)
        before = await follow(ledger, ears, user, before)


async def test_syncs_of_positions_that_are_not_listed_and_rows_that_come_late_are_told_too(
    ledger: Ledger, ears: Ears, user: UUID
) -> None:
    await opened(ledger, user)
    await ledger.log(user, 1, mt5_position_id=4, matched=2)
    await ledger.log(user, 9, mt5_position_id=3, current_price=1951)
    before = await evaluated(ledger, user)
    await ears.all(ledger.connection)
    await ledger.log(user, 2, mt5_position_id=4, matched=2, current_price=1950)
    before = await follow(ledger, ears, user, before)
    await ledger.log(user, 5, mt5_position_id=3, current_price=1)
    await follow(ledger, ears, user, before)


NOT_TOLD: list[dict[str, Any]] = [
    {"take_profit": 2000},
    {"matched": 2},
    {"mt5_position_id": 9},
    {"event_type": "close", "close_reason": "tp"},
    {"event_type": "guard_trigger", "divergence_reason": "gap"},
    {"status": "failed"},
    {"error_message": "no answer"},
    {"current_price": None},
    {"mt5_position_id": None},
]


@pytest.mark.parametrize("columns", NOT_TOLD, ids=str)
@pytest.mark.parametrize("others", [0, 2])
async def test_a_commit_that_says_more_than_prices_is_hinted_at(
    ledger: Ledger, ears: Ears, user: UUID, columns: dict[str, Any], others: int
) -> None:
    await opened(ledger, user)
    await ears.all(ledger.connection)
    async with ledger.connection.transaction():
        for ticket in range(2, 2 + others):
            await ledger.log(user, 1, mt5_position_id=ticket)
        await ledger.log(user, 1, **columns)
    (heard,) = await ears.all(ledger.connection)
    assert not heard.told
    assert heard.payload == f"{user}={await ledger.revision(user)}"


async def test_the_end_of_a_silence_and_of_an_error_is_hinted_at(
    ledger: Ledger, ears: Ears, user: UUID
) -> None:
    for second, change in enumerate(("source = 'silent'", "error_message = 'no answer'"), 1):
        await opened(ledger, user)
        await ledger.connection.execute(f"UPDATE guardwire.accounts SET {change} WHERE user_id = '{user}'")
        await ears.all(ledger.connection)
        await ledger.log(user, second)
        (heard,) = await ears.all(ledger.connection)
        assert not heard.told


async def test_a_thousand_accounts_in_one_statement_are_told_in_payloads_that_fit(
    ledger: Ledger, ears: Ears
) -> None:
    users = [uuid4() for _ in range(1000)]
    insert = """INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, direction, volume,
                    entry_price, current_price, event_type, matched, created_at)
                SELECT u, 1, 'XAUUSD', 'buy', 1, 1950, 1951, 'sync', 1, now() FROM unnest($1::uuid[]) AS u"""
    await ledger.connection.execute(insert, users)
    before = await ledger.revisions()
    await ears.all(ledger.connection)
    await ledger.connection.execute(insert, users)
    heard = await ears.all(ledger.connection)
    assert all(each.told for each in heard)
    assert max(len(each.payload.encode()) for each in heard) < LIMIT_BYTES
    steps = {UUID(told.user): (told.base, told.revision) for told in ears.told_of(heard)}
    after = await ledger.revisions()
    assert steps == {user: (before[user], after[user]) for user in users}


async def test_a_book_that_does_not_fit_is_hinted_at(ledger: Ledger, ears: Ears, user: UUID) -> None:
    write = """INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, direction, volume,
                   entry_price, current_price, event_type, matched, created_at)
               SELECT $1, n, 'XAUUSD', 'buy', 1, 1950, 1951.123456789012345, 'sync', 1, now()
               FROM generate_series(1, 200) AS n"""
    await ledger.connection.execute(write, user)
    await ears.all(ledger.connection)
    await ledger.connection.execute(write, user)
    (heard,) = await ears.all(ledger.connection)
    assert not heard.told


async def test_what_does_not_fit_the_state_that_is_held_is_left_to_a_read(
    ledger: Ledger, ears: Ears, user: UUID
) -> None:
    await opened(ledger, user)
    before = await evaluated(ledger, user)
    await ears.all(ledger.connection)
    await ledger.log(user, 1)
    (told,) = ears.told_of(await ears.all(ledger.connection))
    unlisted = told._replace(positions=[told.positions[0].replace("1 1 ", "1 2 ", 1)])
    unknown = told._replace(positions=["9" + told.positions[0]])
    assert state_after(before.state, unlisted) is None
    assert state_after(before.state, unknown) is None


SECRET = bytes(range(32))


def signed(items: str) -> str:
    """These items with their codes, as the capture sends them."""
    return ";".join(f"{item}#{told_code(SECRET, item)}" for item in items.split(";"))


@pytest.mark.parametrize(
    "payload", ["", "nonsense", "a b c", "a 1 2 3 4 5 6 7 8", "canary=1", ";", "|", "1 2 3|4"]
)
def test_what_is_none_of_the_captures_is_a_value_error(payload: str) -> None:
    empty: Any = {"status": {}, "positions": {"open": {}}}
    with pytest.raises(ValueError, match=r".+"):
        [state_after(empty, told) for told in read_told(signed(payload), SECRET)]


def test_a_told_moment_is_written_as_a_read_one() -> None:
    assert moment("0") == "1970-01-01T00:00:00.000000Z"
    assert moment("1795878506864852") == "2026-11-28T15:08:26.864852Z"
    assert moment("1795878506000001") == "2026-11-28T15:08:26.000001Z"


def test_a_told_step_is_what_the_capture_wrote() -> None:
    told = Told("u", 1, 2, ["3", "4", "", "5", ""], ["6 1 7 8 9 10", "11 2 12 13 14 15"])
    assert list(read_told(signed("u 1 2 3 4  5 |6 1 7 8 9 10|11 2 12 13 14 15"), SECRET)) == [told]


def test_an_item_that_the_capture_did_not_make_is_forged() -> None:
    item = "u 1 2 3 4  5 |6 1 7 8 9 10"
    code = told_code(SECRET, item)
    shorter = told_code(SECRET, item[:-1])
    for forged in (
        item,
        f"{item}#",
        f"{item}#{code[:-1]}",
        f"{item}#{code.upper()}x",
        f"{item}#{shorter}",
        f"{item}#{told_code(bytes(32), item)}",
        f"{item}1#{code}",
        f"{item}#é",
    ):
        with pytest.raises(ForgedTellingError):
            list(read_told(forged, SECRET))


async def test_the_database_and_the_node_make_the_same_codes(ledger: Ledger) -> None:
    for item in ("", "u 1 2", "x" * 8000):
        made = await ledger.connection.fetchval("SELECT guardwire.told_mac($1, $2)", SECRET, item)
        assert made == told_code(SECRET, item)


async def test_the_channel_that_commits_tell_on_is_a_secret_of_the_owner_and_the_nodes(
    ledger: Ledger, connect: Connect, user: UUID
) -> None:
    channel = await ledger.connection.fetchval("SELECT told_channel FROM guardwire.configuration")
    assert len(channel) >= len("guardwire_") + 32
    stranger = await connect()
    role = f"stranger_{uuid4().hex}"
    await ledger.connection.execute(f"CREATE ROLE {role} NOLOGIN")
    await ledger.connection.execute(f"GRANT INSERT, SELECT ON reconciliation_logs TO {role}")
    try:
        await stranger.execute(f"SET ROLE {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await stranger.fetchval("SELECT told_channel FROM guardwire.configuration")
        # Whoever writes, or reads what functions are made of, does not learn it either.
        await Ledger(stranger).log(user)
        assert not await stranger.fetchval(
            "SELECT count(*) FROM pg_proc WHERE prosrc LIKE '%' || $1 || '%'", channel
        )
        assert not await stranger.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%' || $1 || '%'", channel
        )
    finally:
        await stranger.execute("RESET ROLE")
        await ledger.connection.execute(f"DROP OWNED BY {role}")
        await ledger.connection.execute(f"DROP ROLE {role}")


async def test_every_database_has_a_channel_of_its_own(ledger: Ledger) -> None:
    default = await ledger.connection.fetchval(
        "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef"
        " WHERE adrelid = 'guardwire.configuration'::regclass AND pg_get_expr(adbin, adrelid) LIKE '%uuid%'"
    )
    assert "gen_random_uuid()" in default

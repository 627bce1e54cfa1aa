"""A batch publishes deltas that lead to the state that a read shows, and change notices for other accounts."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from guardwire.patch import diff
from queries.delta import Delta, authenticated, mac_of, moment, parse_deltas, state_after
from queries.live_query import Evaluation
from queries.migrations.run import rotate_channel
from tests.queries.conftest import Connect
from tests.queries.database_writer import DatabaseWriter
from tests.queries.notifications import NotificationRecorder

#: PostgreSQL refuses payloads of 8,000 bytes, and with them the commit.
LIMIT_BYTES = 8000


async def opened(writer: DatabaseWriter, tickets: int = 3, **columns: Any) -> None:
    for ticket in range(1, tickets + 1):
        await writer.sync(ticket=ticket, **columns)


async def follow(writer: DatabaseWriter, recorder: NotificationRecorder, before: Evaluation) -> Evaluation:
    """The evaluation after what was written since ``before``, once the deltas were found to lead there."""
    after = await writer.evaluation()
    state, revision = before.state, before.revision
    for delta in recorder.deltas(await recorder.take(writer.connection)):
        assert (delta.user, delta.base) == (str(writer.user_id), revision)
        followed = state_after(state, delta)
        assert followed is not None
        assert followed[1] == diff(state, followed[0])
        state, revision = followed[0], delta.revision
    assert (revision, state) == (after.revision, after.state)
    return after


# ---------------------------------------------------------------- a delta is what a read shows


PRICES = ["1950.5", "1951.123456789", "0.00000000000123", "1949.99995", "999999.99", "1950.5"]


@pytest.mark.parametrize("direction", ["buy", "sell"])
@pytest.mark.parametrize("currency", ["USD", "GBP", "JPY", "CHF", None])
async def test_a_delta_leads_to_the_state_that_a_read_shows(
    writer: DatabaseWriter, recorder: NotificationRecorder, direction: str, currency: str | None
) -> None:
    """In the currency of the quote, by a rate either way, without a rate, and without a currency at all."""
    await writer.rate("USD", "GBP", "0.7777")
    await writer.rate("JPY", "USD", "0.0067")
    if currency:
        await writer.equity(9500, balance="7777.77", currency=currency)
    await opened(writer, direction=direction)
    before = await writer.evaluation()
    await recorder.take(writer.connection)
    for second, price in enumerate(PRICES, 1):
        row = {"current_price": price, "direction": direction}
        await writer.sync(second, updated_at=writer.at(second + second % 2 * 0.042), **row)
        before = await follow(writer, recorder, before)
        async with writer.connection.transaction():
            for ticket in (1, 2, 3):
                await writer.sync(second + 0.5, ticket=ticket, **row)
            if currency:
                await writer.equity(9500 + second, second, balance="7777.78", currency=currency)
        before = await follow(writer, recorder, before)


async def test_deltas_of_equity_lead_to_the_state_that_a_read_shows(
    writer: DatabaseWriter, recorder: NotificationRecorder
) -> None:
    """With a new peak, at a new share of the balance, and while the level is not normal."""
    await opened(writer)
    await writer.equity(10_000)
    await writer.equity(8_400, 1)
    before = await writer.evaluation()
    assert before.state["guards"]["drawdown"]["alert_type"] == "warning"
    await recorder.take(writer.connection)
    for second, equity in enumerate((8_450, "8333.333333", 8_499), 2):
        await writer.equity(equity, second)
        before = await follow(writer, recorder, before)
    await writer.equity(12_000, 10)
    before = await writer.evaluation()
    await recorder.take(writer.connection)
    for second, equity in enumerate((12_500, 12_400, 12_345.67), 11):
        await writer.equity(equity, second, balance=equity)
        before = await follow(writer, recorder, before)
    assert before.state["guards"]["drawdown"]["peak_equity"] == 12_500


async def test_syncs_of_positions_that_are_not_listed_are_deltas_too(
    writer: DatabaseWriter, recorder: NotificationRecorder
) -> None:
    await opened(writer)
    await writer.sync(1, ticket=4, matched=2)
    before = await writer.evaluation()
    await recorder.take(writer.connection)
    await writer.sync(2, ticket=4, matched=2, current_price=1950)
    await follow(writer, recorder, before)


async def test_a_delta_that_does_not_fit_the_state_that_is_held_is_left_to_a_read(
    writer: DatabaseWriter, recorder: NotificationRecorder
) -> None:
    await opened(writer)
    before = await writer.evaluation()
    await recorder.take(writer.connection)
    await writer.sync(1)
    (delta,) = recorder.deltas(await recorder.take(writer.connection))
    unlisted = delta._replace(positions=[delta.positions[0].replace("1 1 ", "1 2 ", 1)])
    unknown = delta._replace(positions=["9" + delta.positions[0]])
    assert state_after(before.state, unlisted) is None
    assert state_after(before.state, unknown) is None


# ---------------------------------------------------------------- the text of a delta


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "a b c",
        "1 a 2 3 4 5 6 7 8",
        "2 a 1 2 3 4 5 6 7 8 9 10 11",
        "canary=1",
        ";",
        "|",
        "1 2 3|4",
    ],
)
def test_a_text_that_is_no_delta_is_a_value_error(text: str) -> None:
    empty: Any = {"status": {}, "positions": {"open": {}}, "guards": {"drawdown": {}}}
    with pytest.raises(ValueError, match=r".+"):
        [state_after(empty, delta) for delta in parse_deltas([text])]


def test_a_delta_is_parsed_as_it_was_written() -> None:
    user = str(UUID(int=1))
    text = f"1 {user} 1 2 3 4  5 6 7 8 9 10|6 1 7 8 9 10|11 2 12 13 14 15"
    parsed = Delta(
        user, 1, 2, ["3", "4", "", "5", "6", "7", "8", "9", "10"], ["6 1 7 8 9 10", "11 2 12 13 14 15"]
    )
    assert list(parse_deltas([text])) == [parsed]
    assert list(parse_deltas([text], lambda _: False)) == []


def test_the_moments_of_deltas_are_written_as_those_of_reads() -> None:
    assert moment("0") == "1970-01-01T00:00:00.000000Z"
    assert moment("1795878506864852") == "2026-11-28T15:08:26.864852Z"
    assert moment("1795878506000001") == "2026-11-28T15:08:26.000001Z"


async def test_the_database_and_the_nodes_authenticate_alike(writer: DatabaseWriter) -> None:
    for payload in ("", "1 a|b", "é" * 4000):
        secret = uuid4().bytes + uuid4().bytes
        theirs = await writer.value("SELECT guardwire.delta_mac($1, $2)", secret, payload)
        assert theirs == mac_of(secret, payload)
        assert authenticated(secret, f"{theirs}#{payload}") == payload
        for forged in (payload, f"#{payload}", f"{theirs[:-1]}x#{payload}", f"{theirs}#{payload} "):
            assert authenticated(secret, forged) is None


# ---------------------------------------------------------------- what is published


@pytest.mark.parametrize("others", [0, 2])
async def test_a_row_that_says_more_than_prices_is_a_change_notice(
    writer: DatabaseWriter, recorder: NotificationRecorder, others: int
) -> None:
    more: list[dict[str, Any]] = [
        {"take_profit": 2000},
        {"ticket": 9},
        {"status": "failed"},
        {"ticket": None},
    ]
    for columns in more:
        account = writer.of()
        await opened(account)
        await recorder.take(writer.connection)
        async with writer.connection.transaction():
            for ticket in range(2, 2 + others):
                await account.sync(1, ticket=ticket)
            await account.sync(**{"second": 1, **columns})
        await writer.apply()
        (notice,) = await recorder.take(writer.connection)
        assert not notice.is_delta
        assert notice.payload == f"{account.user_id}={await account.revision()}"


async def test_one_batch_is_one_notification_of_each_kind(
    writer: DatabaseWriter, recorder: NotificationRecorder
) -> None:
    plain, others = [writer.of() for _ in range(3)], [writer.of() for _ in range(3)]
    for each in plain + others:
        await opened(each)
    await recorder.take(writer.connection)
    async with writer.connection.transaction():
        for each in plain:
            await each.sync(1)
        for each in others:
            await each.close(1)
    await writer.apply()
    delta, notice = await recorder.take(writer.connection)
    revisions = await writer.revisions()
    assert {each.user: each.revision for each in recorder.deltas([delta])} == {
        str(each.user_id): revisions[each.user_id] for each in plain
    }
    assert dict(pair.split("=") for pair in notice.payload.split(",")) == {
        str(each.user_id): str(revisions[each.user_id]) for each in others
    }


async def test_what_is_rolled_back_is_not_published(
    writer: DatabaseWriter, recorder: NotificationRecorder
) -> None:
    transaction = writer.connection.transaction()
    await transaction.start()
    await writer.sync()
    await transaction.rollback()
    await writer.apply()
    assert await recorder.take(writer.connection) == []


async def test_a_thousand_accounts_fit_their_notifications(
    writer: DatabaseWriter, recorder: NotificationRecorder
) -> None:
    """As change notices when their positions open, as deltas when prices move."""
    users = [uuid4() for _ in range(1000)]
    insert = """INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, direction, volume,
                    entry_price, current_price, event_type, matched, created_at)
                SELECT u, 1, 'XAUUSD', 'buy', 1, 1950, 1951, 'sync', 1, now() FROM unnest($1::uuid[]) AS u"""
    await writer.execute(insert, users)
    notices = await recorder.take(writer.connection)
    assert max(len(each.payload.encode()) for each in notices) < LIMIT_BYTES
    before = await writer.revisions()
    pairs = dict(pair.split("=") for each in notices for pair in each.payload.split(","))
    assert {UUID(user): int(revision) for user, revision in pairs.items()} == before
    await writer.execute(insert, users)
    notifications = await recorder.take(writer.connection)
    assert all(each.is_delta for each in notifications)
    assert max(len(each.payload.encode()) for each in notifications) < LIMIT_BYTES
    steps = {UUID(each.user): (each.base, each.revision) for each in recorder.deltas(notifications)}
    after = await writer.revisions()
    assert steps == {user: (before[user], after[user]) for user in users}


async def test_a_book_that_does_not_fit_a_notification_is_a_change_notice(
    writer: DatabaseWriter, recorder: NotificationRecorder
) -> None:
    write = """INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, direction, volume,
                   entry_price, current_price, event_type, matched, created_at)
               SELECT $1, n, 'XAUUSD', 'buy', 1, 1950, 1951.123456789012345, 'sync', 1, now()
               FROM generate_series(1, 200) AS n"""
    await writer.execute(write, writer.user_id)
    await recorder.take(writer.connection)
    await writer.execute(write, writer.user_id)
    (notice,) = await recorder.take(writer.connection)
    assert not notice.is_delta


async def test_while_the_queue_of_notifications_is_half_full_nothing_is_published(
    writer: DatabaseWriter, recorder: NotificationRecorder
) -> None:
    """A full queue would make the batch fail; the nodes' sweeps find what changed."""
    # The queue belongs to the whole server, and takes minutes to fill: what measures it is replaced.
    functions = await writer.connection.fetch("""
        SELECT pg_get_functiondef(p.oid) AS definition FROM pg_proc AS p
        WHERE p.pronamespace = 'guardwire'::regnamespace AND p.prosrc LIKE '%pg_notify(%'
          AND p.proname <> 'wake_applier'""")
    assert len(functions) == 2
    for usage, published in (("0.5", 0), ("0.49", 1)):
        await writer.connection.execute(
            "CREATE OR REPLACE FUNCTION guardwire.usage() RETURNS float8 LANGUAGE sql"
            f" AS 'SELECT {usage}::float8'"
        )
        for row in functions:
            definition = row["definition"].replace("pg_notification_queue_usage()", "guardwire.usage()")
            assert "guardwire.usage()" in definition
            await writer.connection.execute(definition)
        for price in (1, 2):
            await writer.sync(price, current_price=price)
            assert len(await recorder.take(writer.connection)) == published
    assert list(await writer.book()) == ["1"]


# ---------------------------------------------------------------- the secret channel


async def test_the_channel_of_deltas_is_a_secret_of_the_owner_and_the_nodes(
    writer: DatabaseWriter, connect: Connect
) -> None:
    channel = await writer.value("SELECT delta_channel FROM guardwire.configuration")
    assert len(channel) >= len("guardwire_") + 32
    stranger = await connect()
    role = f"stranger_{uuid4().hex}"
    await writer.connection.execute(f"CREATE ROLE {role} NOLOGIN")
    await writer.connection.execute(f"GRANT INSERT, SELECT ON reconciliation_logs TO {role}")
    try:
        await stranger.execute(f"SET ROLE {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await stranger.fetchval("SELECT delta_channel FROM guardwire.configuration")
        await DatabaseWriter(stranger, applies=False).sync()
        for source in (
            "SELECT prosrc FROM pg_proc",
            "SELECT query FROM pg_stat_activity",
            "SELECT pg_listening_channels()",
        ):
            assert not [text for (text,) in await stranger.fetch(source) if channel in (text or "")]
    finally:
        await stranger.execute("RESET ROLE")
        await writer.connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_the_applier_traces_none_of_its_notifications(writer: DatabaseWriter) -> None:
    """The setting trace_notify would print the channel's name into the log of the applier's session."""
    messages: list[str] = []
    writer.connection.add_log_listener(lambda _, message: messages.append(str(message)))
    await writer.connection.execute("SET trace_notify = on; SET client_min_messages = 'debug5'")
    await writer.sync()
    await writer.sync(1)
    channel = await writer.value("SELECT delta_channel FROM guardwire.configuration")
    await writer.connection.execute("RESET client_min_messages; RESET trace_notify")
    assert not [message for message in messages if channel in message]


async def test_the_channel_and_its_secret_can_be_rotated(writer: DatabaseWriter, migrated_url: str) -> None:
    read = "SELECT delta_channel, delta_secret FROM guardwire.configuration"
    before = await writer.connection.fetchrow(read)
    await rotate_channel(migrated_url)
    after = await writer.connection.fetchrow(read)
    assert after["delta_channel"] != before["delta_channel"]
    assert after["delta_secret"] != before["delta_secret"]
    assert len(after["delta_secret"]) == 32


async def test_every_database_has_a_channel_of_its_own(writer: DatabaseWriter) -> None:
    defaults = await writer.connection.fetch(
        "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef"
        " WHERE adrelid = 'guardwire.configuration'::regclass AND pg_get_expr(adbin, adrelid) LIKE '%uuid%'"
    )
    assert len(defaults) == 2
    assert all("gen_random_uuid()" in row[0] for row in defaults)

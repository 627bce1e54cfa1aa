"""However a transaction is put together, what it commits is captured once, whole and in order."""

from __future__ import annotations

import time
from uuid import UUID, uuid4

from tests.queries.conftest import Connect
from tests.queries.ledger import Ledger


async def test_a_commit_is_seen_whole_or_not_at_all(ledger: Ledger, connect: Connect, user: UUID) -> None:
    reader = Ledger(await connect())
    async with ledger.connection.transaction():
        await ledger.log(user)
        await ledger.equity(user, 1000)
        assert await reader.revision(user) == 0
    state = await reader.state(user)
    assert list(state["positions"]["open"]) == ["1"]
    assert state["guards"]["drawdown"]["current_equity"] == 1000


async def test_one_commit_is_one_revision(ledger: Ledger, user: UUID) -> None:
    async with ledger.connection.transaction():
        for second in range(10):
            await ledger.log(user, second)
    arrivals = await ledger.connection.fetch(
        "SELECT revision, ordinal FROM guardwire.arrivals WHERE user_id = $1 ORDER BY ordinal", user
    )
    assert {row["revision"] for row in arrivals} == {await ledger.revision(user)}
    assert len(arrivals) == 10


async def test_what_is_rolled_back_to_a_savepoint_never_was(ledger: Ledger, user: UUID) -> None:
    async with ledger.connection.transaction():
        await ledger.log(user, 0, mt5_position_id=1)
        await ledger.connection.execute("SAVEPOINT here")
        await ledger.log(user, 1, mt5_position_id=2)
        await ledger.close(user, 2, mt5_position_id=1)
        await ledger.connection.execute("ROLLBACK TO SAVEPOINT here")
        await ledger.log(user, 3, mt5_position_id=3)
    assert set(await ledger.book(user)) == {"1", "3"}


async def test_a_savepoint_with_more_rows_than_fit_the_list_can_be_rolled_back(
    ledger: Ledger, user: UUID
) -> None:
    async with ledger.connection.transaction():
        await ledger.log(user, 0, mt5_position_id=1)
        await ledger.connection.execute("SAVEPOINT here")
        for ticket in range(2, 600):
            await ledger.log(user, 1, mt5_position_id=ticket)
        await ledger.connection.execute("ROLLBACK TO SAVEPOINT here")
        await ledger.log(user, 3, mt5_position_id=1000)
    assert set(await ledger.book(user)) == {"1", "1000"}
    assert await ledger.notes() == []


async def test_a_rolled_back_transaction_leaves_no_trace(ledger: Ledger, user: UUID) -> None:
    transaction = ledger.connection.transaction()
    await transaction.start()
    for ticket in range(1, 500):
        await ledger.log(user, mt5_position_id=ticket)
    await transaction.rollback()
    await ledger.log(uuid4())
    assert await ledger.revision(user) == 0
    assert await ledger.connection.fetchval("SELECT count(*) FROM guardwire.pending") == 0


async def test_copy_is_captured(ledger: Ledger, user: UUID) -> None:
    await ledger.connection.copy_records_to_table(
        "reconciliation_logs",
        records=[(user, ticket, "sync", 1, ledger.at(0)) for ticket in range(1, 1001)],
        columns=["user_id", "mt5_position_id", "event_type", "matched", "created_at"],
    )
    assert (await ledger.state(user))["positions"]["total_positions"] == 1000


async def test_a_transaction_of_many_accounts_moves_each_of_them_and_nobody_else(ledger: Ledger) -> None:
    users = [uuid4() for _ in range(20)]
    bystander = uuid4()
    await ledger.log(bystander)
    before = await ledger.revision(bystander)
    async with ledger.connection.transaction():
        for user in users:
            await ledger.log(user)
    assert [list(await ledger.book(user)) for user in users] == [["1"]] * 20
    assert await ledger.revision(bystander) == before


async def test_rows_after_set_constraints_immediate_are_captured(ledger: Ledger, user: UUID) -> None:
    async with ledger.connection.transaction():
        await ledger.log(user, 0, mt5_position_id=1)
        await ledger.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        await ledger.log(user, 1, mt5_position_id=2)
        row = await ledger.log(user, 2, mt5_position_id=3)
        await ledger.update(row, close_reason="manual")
        await ledger.equity(user, 500)
    state = await ledger.state(user)
    assert set(state["positions"]["open"]) == {"1", "2"}
    assert state["guards"]["drawdown"]["current_equity"] == 500
    assert await ledger.notes() == []


async def test_a_transaction_that_is_immediate_from_its_start_is_captured(ledger: Ledger, user: UUID) -> None:
    async with ledger.connection.transaction():
        await ledger.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        await ledger.log(user)
    assert list(await ledger.book(user)) == ["1"]


async def test_what_is_deferred_again_is_captured_too(ledger: Ledger, user: UUID) -> None:
    async with ledger.connection.transaction():
        await ledger.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        await ledger.log(user, 0, mt5_position_id=1)
        await ledger.connection.execute("SET CONSTRAINTS ALL DEFERRED")
        await ledger.log(user, 1, mt5_position_id=2)
        await ledger.log(user, 2, mt5_position_id=3)
        await ledger.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        await ledger.connection.execute("SAVEPOINT here")
        await ledger.log(user, 3, mt5_position_id=4)
        await ledger.connection.execute("ROLLBACK TO SAVEPOINT here")
        await ledger.log(user, 4, mt5_position_id=5)
    assert set(await ledger.book(user)) == {"1", "2", "3", "5"}


async def test_rows_that_another_deferred_trigger_writes_at_commit_are_captured(
    ledger: Ledger, user: UUID
) -> None:
    await ledger.connection.execute("""
        CREATE TABLE orders (user_id uuid);
        CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.reconciliation_logs (user_id, mt5_position_id, event_type, matched)
            VALUES (NEW.user_id, 9, 'sync', 1);
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER follow AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION follow();
    """)
    async with ledger.connection.transaction():
        await ledger.log(user)
        await ledger.connection.execute("INSERT INTO orders VALUES ($1)", user)
    assert set(await ledger.book(user)) == {"1", "9"}


async def test_a_table_can_be_altered_in_the_transaction_that_wrote_to_it(ledger: Ledger, user: UUID) -> None:
    async with ledger.connection.transaction():
        await ledger.log(user)
        await ledger.connection.execute("ALTER TABLE reconciliation_logs ADD COLUMN comment text")
        await ledger.log(user, 1, mt5_position_id=2)
        await ledger.connection.execute(
            "ALTER TABLE reconciliation_logs ALTER COLUMN symbol TYPE varchar(100)"
        )
    assert set(await ledger.book(user)) == {"1", "2"}


async def test_a_table_can_be_emptied_in_the_transaction_that_wrote_to_it(ledger: Ledger, user: UUID) -> None:
    await ledger.log(user)
    async with ledger.connection.transaction():
        await ledger.log(user, 1, mt5_position_id=2)
        await ledger.connection.execute("TRUNCATE reconciliation_logs")
    assert list(await ledger.book(user)) == ["1"]
    assert await ledger.notes() == []


async def seconds_for(ledger: Ledger, statements: int) -> float:
    user = uuid4()
    script = ";".join(
        f"""INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched)
            VALUES ('{user}', {ticket}, 'sync', 1)"""
        for ticket in range(1, statements + 1)
    )
    before = time.monotonic()
    await ledger.connection.execute(script)  # one transaction
    took = time.monotonic() - before
    assert (await ledger.state(user))["positions"]["total_positions"] == statements
    return took


async def test_thousands_of_single_row_statements_in_one_transaction_are_captured(
    ledger: Ledger,
) -> None:
    await seconds_for(ledger, 10)
    few, many = await seconds_for(ledger, 500), await seconds_for(ledger, 5000)
    # Ten times the rows; a list that is copied for each row would cost a hundred times.
    assert many < 30 * few
    assert await ledger.connection.fetchval("SELECT count(*) FROM guardwire.pending") == 0
    assert await ledger.notes() == []

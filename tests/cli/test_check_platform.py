"""`guardwire check-platform`: each of its checks, on a real database."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from queries.migrations.run import migrate
from realtime.checks.derived import offset_findings
from realtime.checks.finding import Finding, Report, problem
from realtime.checks.platform import SESSION, check_platform
from realtime.checks.rows import instrument_of
from tests.cli.conftest import Guardwire
from tests.inbox import apply_inbox
from tests.queries import legacy
from tests.queries.database_writer import DatabaseWriter, connected

KNOWN = frozenset({"EURUSD", "XAUUSD", "US30", "US3000", "USD", "IBM"})


async def findings(database_url: str, *, most_rows: int = 1000) -> list[Finding]:
    """All findings in the database, from the statements that the command runs."""
    async with connected(database_url, server_settings=SESSION) as connection:
        return (await check_platform(connection, most_rows=most_rows)).findings


def of(found: list[Finding], check: str, about: str | None = None) -> list[str]:
    """The sentences of one check, about one subject or about all."""
    return [each.sentence for each in found if each.check == check and about in (None, each.about)]


def problems(found: list[Finding]) -> list[str]:
    return [each.sentence for each in found if each.level == "problem"]


@pytest.fixture
async def writer(migrated_url: str) -> AsyncIterator[DatabaseWriter]:
    """A platform without any oddity: one account with equity, and a position."""
    async with connected(migrated_url) as connection:
        writer = DatabaseWriter(connection)
        writer.begun = datetime.now(UTC)
        await writer.equity(10_000, cash_flow=0)
        await writer.equity(10_500, cash_flow=500)
        await writer.sync(ticket=7)
        yield writer


# The command.


async def test_a_platform_that_writes_what_it_should_has_no_problem(
    guardwire: Guardwire, writer: DatabaseWriter, migrated_url: str
) -> None:
    done = guardwire("check-platform", DATABASE_URL=migrated_url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "problems: none" in done.stdout
    assert re.search(r"read: PostgreSQL \d+\.\d+, rows 1 newest rows of the log from ", done.stdout)


async def test_problems_are_printed_as_text_or_as_json(guardwire: Guardwire, database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute(legacy.TABLE)
        await connection.execute(
            "INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, event_type, created_at)"
            " VALUES ('nobody', 1, E'GOLD\\x1b[2J''m', 'sync', now() AT TIME ZONE 'UTC')"
        )
    report = guardwire("check-platform", DATABASE_URL=database_url)
    assert report.returncode == 1
    assert "\x1b" not in report.stdout
    assert "CREATE INDEX CONCURRENTLY reconciliation_logs_user_id" in report.stdout
    assert "the database has not been migrated" in report.stdout
    printed = guardwire("check-platform", "--json", DATABASE_URL=database_url)
    assert printed.returncode == 1
    document = json.loads(printed.stdout)
    assert document["clean"] is False
    assert {"check", "level", "about", "sentence", "remedy"} == set(document["findings"][0])
    by_check = {each["check"]: each for each in document["findings"] if each["level"] == "problem"}
    assert "name no account" in by_check["user"]["sentence"]
    assert "VALUES ('GOLD\x1b[2J''M'" in by_check["symbol"]["remedy"]


def test_a_database_out_of_reach_is_one_sentence(guardwire: Guardwire) -> None:
    done = guardwire("check-platform", DATABASE_URL="postgresql://me:hidden-word@127.0.0.1:9/none")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "127.0.0.1:9" in done.stderr
    assert "hidden-word" not in done.stderr


async def test_the_session_may_only_read(writer: DatabaseWriter, migrated_url: str) -> None:
    async with connected(migrated_url, server_settings=SESSION) as connection:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("DELETE FROM reconciliation_logs")


async def test_a_login_that_may_not_look_gets_a_sentence_for_each_check(
    writer: DatabaseWriter, migrated_url: str
) -> None:
    login = f"stranger_{secrets.token_hex(4)}"
    await writer.connection.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'a'")
    try:
        found = await findings(re.sub(r"//[^@]*@", f"//{login}:a@", migrated_url))
    finally:
        await writer.connection.execute(f"DROP ROLE {login}")
    refused = [each for each in found if each.sentence.startswith("this login may not look")]
    assert {each.check for each in refused} >= {"rows", "capture", "applier", "ignored", "equity", "rate"}
    assert not Report(findings=found).is_clean


async def test_a_member_of_guardwire_server_sees_all(writer: DatabaseWriter, migrated_url: str) -> None:
    await migrate(migrated_url, roles=True)
    login = f"node_{secrets.token_hex(4)}"
    await writer.connection.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'a' IN ROLE guardwire_server")
    try:
        assert problems(await findings(re.sub(r"//[^@]*@", f"//{login}:a@", migrated_url))) == []
    finally:
        await writer.connection.execute(f"DROP ROLE {login}")


@pytest.mark.parametrize("index", ["SELECT 'none'", "CREATE INDEX ON reconciliation_logs (created_at)"])
async def test_it_reads_no_more_of_a_long_log_than_it_was_asked_for(database_url: str, index: str) -> None:
    async with connected(database_url, server_settings={"application_name": "setup"}) as owner:
        await legacy.make(owner, rows_per_user=1000)
        await owner.execute(index)
    async with connected(database_url) as connection:
        before = await rows_read_by_scans(connection, of_session="setup")
        async with connected(database_url, server_settings=SESSION) as reader:
            report = await check_platform(reader, most_rows=500)
        after = await rows_read_by_scans(connection, of_session=SESSION["application_name"])
        assert after - before <= 1000
        assert 300 <= int(str(report.read["rows"]).partition(" ")[0]) <= 500
        newest = await connection.fetchval("SELECT max(created_at) FROM reconciliation_logs")
        assert f"to {newest:%Y-%m-%d %H:%M:%S}" in str(report.read["rows"])


async def rows_read_by_scans(connection: Any, *, of_session: str) -> int:
    """Rows that sequential scans have read from the log, when the session with this name has ended.

    A session reports its statistics at its end at the latest, and some only then.
    """
    while await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", of_session
    ):
        await asyncio.sleep(0.002)
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    statistics = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'reconciliation_logs'"
    rows: int = await connection.fetchval(statistics)
    return rows


# The catalogue.


async def test_a_table_in_another_schema_or_of_another_kind_is_named(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("CREATE SCHEMA trading; CREATE TABLE trading.equity_snapshots (id uuid)")
        await connection.execute("CREATE VIEW reconciliation_logs AS SELECT 1 AS id")
    found = await findings(database_url)
    assert of(found, "table", "trading.equity_snapshots") == [
        "trading.equity_snapshots is not read: Guardwire reads schema public alone"
    ]
    assert "public.reconciliation_logs is not a table, so no trigger can copy its rows" in problems(found)
    assert "public.fx_rates is not there; `guardwire migrate` makes it" in of(found, "table", "fx_rates")


async def test_columns_that_cannot_be_read_and_columns_that_nothing_reads_are_named(
    database_url: str,
) -> None:
    async with connected(database_url) as connection:
        await connection.execute(legacy.TABLE)
        await connection.execute(
            "ALTER TABLE reconciliation_logs DROP COLUMN close_reason, ALTER volume TYPE text, ADD COLUMN strategy text"
        )
    found = await findings(database_url)
    wrong_type, missing = problems(found)[:2]
    assert wrong_type.startswith(
        "column volume of public.reconciliation_logs is text; it can be bigint or double "
    )
    assert missing == "column close_reason of public.reconciliation_logs is missing"
    notes = of(found, "column")
    assert "not read of public.reconciliation_logs: strategy" in notes
    assert "tickets are integer here, and MT5 gives tickets beyond 2,147,483,647" in notes
    assert "created_at and updated_at of public.reconciliation_logs have no zone and are read as UTC" in notes


async def test_the_line_for_a_missing_index_makes_it(writer: DatabaseWriter, migrated_url: str) -> None:
    await writer.connection.execute(
        "DROP INDEX reconciliation_logs_user_id, equity_snapshots_user_id;"
        "CREATE INDEX ON reconciliation_logs (user_id)"
    )
    missing = [each for each in await findings(migrated_url) if each.check == "index"]
    assert [each.about for each in missing] == ["reconciliation_logs", "equity_snapshots"]
    for each in missing:
        assert each.remedy.startswith("CREATE INDEX CONCURRENTLY ")
        await writer.connection.execute(each.remedy)
    assert of(await findings(migrated_url), "index") == []


async def test_a_cast_to_json_of_the_platforms_own_is_named(
    writer: DatabaseWriter, migrated_url: str
) -> None:
    await writer.connection.execute("""
        CREATE TYPE mood AS ENUM ('calm', 'wild');
        CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE sql AS $$ SELECT to_json($1::text) $$;
        CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
        ALTER TABLE reconciliation_logs ADD COLUMN mood mood;
    """)
    (sentence,) = of(await findings(migrated_url), "cast")
    assert "public.reconciliation_logs.mood has a cast to json, mood_json(mood)" in sentence


async def test_partitions_are_named_and_tables_that_inherit_are_a_problem(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute(legacy.TABLE)
        await connection.execute("CREATE TABLE more () INHERITS (reconciliation_logs)")
        await migrate(database_url)
        assert (
            "1 tables inherit from public.reconciliation_logs"
            in of(await findings(database_url), "partition")[0]
        )
        await connection.execute("""
            DROP TABLE more; DROP TABLE equity_snapshots CASCADE;
            CREATE TABLE public.equity_snapshots (
                id uuid DEFAULT gen_random_uuid(), user_id uuid, equity numeric, balance numeric, currency text,
                cash_flow numeric, created_at timestamptz, PRIMARY KEY (id, created_at)
            ) PARTITION BY RANGE (created_at);
            CREATE TABLE public.equity_all PARTITION OF public.equity_snapshots DEFAULT;
        """)
        found = await findings(database_url)
        assert of(found, "partition") == ["public.equity_snapshots has 1 partitions"]
        assert (
            "public.equity_snapshots is partitioned and lacks guardwire_move: a row that moves counts twice"
            in (problems(found))
        )
        (index,) = [each for each in found if each.check == "index" and each.about == "equity_snapshots"]
        assert "on each partition first" in index.remedy
        await migrate(database_url)
        await connection.execute("ALTER TABLE equity_all DISABLE TRIGGER guardwire_copy")
        (disabled,) = [each for each in await findings(database_url) if each.check == "capture"]
        assert disabled.sentence == "trigger guardwire_copy on partition equity_all does not fire always"
        await connection.execute(disabled.remedy)
        assert of(await findings(database_url), "capture") == []


async def test_row_level_security_is_a_problem_until_a_policy_lets_nodes_read(
    writer: DatabaseWriter, migrated_url: str
) -> None:
    await migrate(migrated_url, roles=True)
    await writer.connection.execute("ALTER TABLE fx_rates ENABLE ROW LEVEL SECURITY")
    await writer.connection.execute("CREATE POLICY own ON fx_rates FOR SELECT TO PUBLIC USING (base = 'EUR')")
    (policy,) = [each for each in await findings(migrated_url) if each.check == "policy"]
    assert policy.level == "problem"
    assert policy.sentence == (
        "public.fx_rates has row level security, and no policy lets guardwire_server read every row"
    )
    await writer.connection.execute(policy.remedy)
    (policy,) = [each for each in await findings(migrated_url) if each.check == "policy"]
    assert policy.level == "note"
    await writer.connection.execute("ALTER TABLE fx_rates FORCE ROW LEVEL SECURITY")
    (policy,) = [each for each in await findings(migrated_url) if each.check == "policy"]
    assert policy.level == "problem"
    assert "forces row level security" in policy.sentence


async def test_a_publication_of_everything_is_a_problem(writer: DatabaseWriter, migrated_url: str) -> None:
    await writer.connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    assert (
        "publication everything contains schema guardwire"
        in of(await findings(migrated_url), "publication")[0]
    )


# Rows.


@pytest.mark.parametrize(
    ("symbol", "meant"),
    [
        ("EURUSD", "EURUSD"), ("eurusd.r", "EURUSD"), ("XAUUSDm", "XAUUSD"), ("EURUSD-ecn", "EURUSD"),
        ("#US30", "US30"), ("US3000x", "US3000"), ("EURUSD-toolong", None), ("GOLD", None), ("\u0131bm", None),
    ],
)  # fmt: skip
def test_an_instrument_is_found_behind_the_decoration_of_a_broker(symbol: str, meant: str | None) -> None:
    assert instrument_of(symbol, KNOWN) == meant


async def test_letters_beyond_ascii_are_not_folded(writer: DatabaseWriter, migrated_url: str) -> None:
    """As in the capture: a dotless i is no I, although its upper case is."""
    await writer.execute(
        "INSERT INTO instruments (symbol, contract_size, pip_size, quote_currency) VALUES ('IBM', 1, 1, 'USD')"
    )
    await writer.sync(ticket=8, symbol="\u0131bm")
    found = await findings(migrated_url)
    assert ("\u0131bm", "problem") in [(each.about, each.level) for each in found if each.check == "symbol"]


async def test_the_statement_for_a_symbol_with_a_suffix_makes_its_profit_right(
    writer: DatabaseWriter, migrated_url: str
) -> None:
    await writer.sync(ticket=8, symbol="EURUSDX", volume=2, entry_price="1.10", current_price="1.08")
    await writer.sync(ticket=7, symbol="EURUSD.r")
    await writer.sync(ticket=9, symbol="O'Neill", volume=2, entry_price="1.10", current_price="1.08")
    found = {
        each.about: each
        for each in await findings(migrated_url)
        if (each.check, each.level) == ("symbol", "problem")
    }
    assert "looks like EURUSD with a suffix" in found["EURUSDX"].sentence
    assert "EURUSD.r" not in found, "this suffix is understood"
    await writer.execute(found["EURUSDX"].remedy)
    assert (await writer.book())["8"]["unrealized_pnl"] == -4000.0
    assert "VALUES ('O''NEILL', <units in one lot>" in found["O'Neill"].remedy
    after = {each.about: each.level for each in await findings(migrated_url) if each.check == "symbol"}
    assert "EURUSDX" not in after


async def test_values_that_cannot_be_used_are_counted(writer: DatabaseWriter, migrated_url: str) -> None:
    await writer.sync(ticket=8, direction="sideways", volume="-1", entry_price="NaN", matched=7)
    # Ticket 0 is none: the sync says that the reconciliation ran.
    await writer.sync(ticket=0)
    await writer.sync(ticket=-9)
    await writer.sync(ticket=10, user_id=None)
    await writer.sync(ticket=11, symbol=None)
    await writer.sync(ticket=12, event_type="margin_call")
    await writer.sync(ticket=13, event_type="sync", status="failed", direction=None, symbol=None)
    await writer.guard("weekend gap", None, None)
    found = await findings(migrated_url)
    assert of(found, "value") == [
        "1 of 5 rows of an open position lack a usable direction: profit is unknown",
        "1 of 5 rows of an open position lack a usable volume: profit is unknown",
        "1 of 5 rows of an open position lack a usable entry_price: profit is unknown",
        "1 of 1 rows about a gap or spread lack one of two prices, and are warnings",
    ]
    assert of(found, "matched") == ["1 of 6 rows have matched = 7, which counts as 0"]
    assert of(found, "ticket") == ["1 of 6 rows about a position have no usable ticket, and are ignored"]
    assert of(found, "user") == ["1 of 9 rows name no account: user_id is null or no UUID"]
    assert of(found, "symbol", "symbol") == ["1 of 6 rows about a position have no symbol"]
    assert of(found, "event") == ["1 of 9 rows have event_type 'margin_call', and are not used"]
    ignored = [each for each in found if each.check == "ignored"]
    assert ["mt5_position_id is no ticket" in each.sentence for each in ignored] == [True, False]
    for each in ignored:
        assert await writer.connection.fetchval(f"SELECT count(*) FROM ({each.remedy.rstrip(';')}) AS o") == 1
    assert {each.level for each in ignored} == {"problem"}
    await writer.execute("UPDATE guardwire.ignored_rows SET noted_at = noted_at - interval '61 minutes'")
    later = [each for each in await findings(migrated_url) if each.check == "ignored"]
    assert [each.level for each in later] == ["note"] * len(ignored)


async def test_a_log_without_a_matched_position_lists_nothing(
    writer: DatabaseWriter, migrated_url: str
) -> None:
    await writer.execute("TRUNCATE reconciliation_logs")
    await writer.sync(matched=0)
    assert of(await findings(migrated_url), "matched") == ["no row has matched = 1, so no position is listed"]
    await writer.execute("TRUNCATE reconciliation_logs")
    await writer.sync(event_type="heartbeat")
    assert "no row is about a position" in of(await findings(migrated_url), "event", "sync")[0]


async def test_columns_that_no_row_fills_are_named(writer: DatabaseWriter, migrated_url: str) -> None:
    (sentence,) = [each for each in of(await findings(migrated_url), "column") if "nothing fills" in each]
    assert sentence.endswith(
        "nothing fills close_reason, closed_price, pnl_gbp, stop_loss, take_profit, updated_at"
    )


# Clocks.


async def test_a_row_of_the_future_is_a_problem_before_anything_is_installed(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute(legacy.TABLE)
        await connection.execute(legacy.SYNC, 1, 7, 1.2)
        assert of(await findings(database_url), "clock") == []
        await connection.execute(
            "UPDATE reconciliation_logs SET created_at = created_at + interval '3 hours'"
        )
    (sentence,) = of(await findings(database_url), "clock")
    assert re.match(r"created_at of 1 of 1 rows is in the future, by up to 1(0800|079\d) s", sentence)


async def test_a_clock_behind_is_measured_by_the_arrival_of_rows(
    writer: DatabaseWriter, migrated_url: str
) -> None:
    for ticket in range(3):
        await writer.of().sync(ticket=ticket + 1, created_at=datetime.now(UTC) - timedelta(hours=2))
    found = of(await findings(migrated_url), "clock", "reconciliation_logs.created_at")
    assert len(found) == 1
    assert re.match(
        r"created_at of public.reconciliation_logs is 7\d\d\d s behind the arrival of the rows", found[0]
    )
    assert "in 3 of 4 accounts: that is a time zone, UTC-2, as the broker's wall clock has" in found[0]


def test_only_a_whole_number_of_half_hours_is_called_a_time_zone() -> None:
    def sentence(seconds: float) -> str:
        return next(offset_findings("equity_snapshots", {"a": seconds})).sentence

    assert "UTC+3," in sentence(10_805)
    assert "UTC+5.5," in sentence(19_790)
    assert "time zone" not in sentence(400)
    assert list(offset_findings("equity_snapshots", {"a": 30.0, "b": -59.0})) == []


async def test_reconciliations_that_come_seldom_are_noted(writer: DatabaseWriter, migrated_url: str) -> None:
    for second in (-500, -400, -300, -200):
        await writer.sync(second, ticket=7)
    (sentence,) = of(await findings(migrated_url), "clock", "sync_overdue_seconds")
    assert "1 of 1 accounts are reconciled less often than every 60 s, the slowest every 100 s" in sentence


# Equity and rates.


async def test_accounts_without_equity_or_with_old_equity_are_a_problem(
    writer: DatabaseWriter, migrated_url: str
) -> None:
    without, old = writer.of(), writer.of()
    await without.sync()
    await old.equity(100, -7200)
    await old.sync()
    found = [
        each for each in await findings(migrated_url) if each.check == "equity" and each.level == "problem"
    ]
    assert [(each.sentence.partition(":")[0], each.remedy) for each in found] == [
        ("1 account have no row in public.equity_snapshots", f"accounts: {without.user_id}"),
        (
            "1 account were reconciled for more than an hour after their last equity",
            f"accounts: {old.user_id}",
        ),
    ]


async def test_equity_that_guards_cannot_use_is_a_problem(writer: DatabaseWriter, migrated_url: str) -> None:
    await writer.equity("NaN", balance=10_000)
    await writer.equity(10_000, currency="$")
    await writer.equity(10_000, balance=None)
    found = await findings(migrated_url)
    assert of(found, "equity", "equity") == ["1 of 5 rows of public.equity_snapshots have no finite equity"]
    assert of(found, "equity", "currency") == ["1 of 5 rows of public.equity_snapshots have the currency '$'"]
    assert of(found, "equity", "balance") == ["1 of 5 rows of public.equity_snapshots have no balance"]
    assert of(found, "equity", "cash_flow") == []


async def test_a_pair_without_a_rate_is_a_problem(writer: DatabaseWriter, migrated_url: str) -> None:
    await writer.sync(ticket=8, symbol="GER40")
    (rate,) = [each for each in await findings(migrated_url) if each.check == "rate"]
    assert "there is no rate between EUR and USD, which 1 open positions need" in rate.sentence
    await writer.execute(rate.remedy.replace("<rate>", "1.1"))
    assert of(await findings(migrated_url), "rate") == []


# Triggers, and rows in schema guardwire.


async def test_triggers_and_rows_that_were_set_aside_are_problems(
    writer: DatabaseWriter, migrated_url: str
) -> None:
    await writer.connection.execute("DROP TRIGGER guardwire_copy ON fx_rates")
    await writer.connection.execute("ALTER TABLE instruments ENABLE TRIGGER guardwire_truncate")
    await writer.connection.execute(
        "INSERT INTO guardwire.set_aside (nth, account, source, operation, xid, arrived_at, sqlstate, reason)"
        " VALUES (1, $1, 'l', 'i', '1', now(), '22000', 'why')", uuid4(),
    )  # fmt: skip
    found = of(await findings(migrated_url), "capture")
    assert any("guardwire_copy on public.fx_rates is missing" in each for each in found)
    assert any("guardwire_truncate on public.instruments is not enabled as ALWAYS" in each for each in found)
    assert any("set_aside" in each for each in found)


async def test_rows_that_wait_and_are_not_applied_are_a_problem(
    writer: DatabaseWriter, migrated_url: str
) -> None:
    (applier,) = [each for each in await findings(migrated_url) if each.check == "applier"]
    assert (applier.level, applier.sentence) == ("note", "no process applies rows, and 0 wait")
    writer.applies = False
    await writer.sync(1, ticket=7)
    (applier,) = [each for each in await findings(migrated_url) if each.check == "applier"]
    assert (applier.level, applier.sentence) == ("problem", "no process applies rows, and 1 wait")
    await apply_inbox(writer.connection)


def test_a_report_is_read_without_color_and_in_one_line_each() -> None:
    report = Report({"rows": 1}, [problem("clock", "a", "one\ntwo", "three\x07")])
    assert report.as_text().splitlines()[3:5] == ["  clock        one\\ntwo", "                 three\\x07"]

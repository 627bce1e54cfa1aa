"""A platform's clock may be ahead, behind, or step back: what it wrote last is shown, or known to be in doubt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from guardwire.patch import State
from queries.capture import housekeep, rebuild
from tests.queries.database_writer import DatabaseWriter

HOUR = timedelta(hours=1)
_CLASSIFIED = """
SELECT (guardwire.classify_rows(guardwire.parse_copies(array_agg(i))))[1] FROM guardwire.inbox AS i
"""


def shown_by(clock: timedelta) -> datetime:
    """The present time on a clock that differs from the right time by ``clock``."""
    return datetime.now(UTC) + clock


async def status_of(writer: DatabaseWriter) -> State:
    status: State = (await writer.state())["status"]
    return status


async def is_stale(writer: DatabaseWriter) -> bool:
    """Whether nodes call the account stale."""
    found = await writer.connection.fetch(
        "SELECT account FROM guardwire.waiting_accounts($1, pg_current_snapshot()) WHERE is_old",
        [writer.user_id],
    )
    return bool(found)


# ---------------------------------------------------------------- ahead


async def test_a_row_of_the_future_does_not_hide_those_after_it(writer: DatabaseWriter) -> None:
    await writer.sync(created_at=shown_by(3 * HOUR), current_price=1960)
    await writer.sync(created_at=shown_by(timedelta(0)), current_price=1940)
    assert (await writer.book())["1"]["current_price"] == 1940


async def test_a_close_of_the_future_does_not_bury_a_position_that_is_synced_on(
    writer: DatabaseWriter,
) -> None:
    await writer.sync()
    await writer.close(created_at=shown_by(3 * HOUR))
    assert await writer.book() == {}
    await writer.sync(created_at=shown_by(timedelta(0)))
    assert list(await writer.book()) == ["1"]


async def test_times_of_the_future_are_shown_as_those_of_their_arrival(writer: DatabaseWriter) -> None:
    ahead = shown_by(3 * HOUR)
    await writer.sync(created_at=ahead, updated_at=ahead + timedelta(milliseconds=42))
    state, now = await writer.state(), datetime.now(UTC).isoformat()
    position = state["positions"]["open"]["1"]
    times = [
        position["entry_time"],
        position["last_updated_at"],
        state["positions"]["last_updated_at"],
        state["status"]["last_sync_at"],
        *(event["created_at"] for event in state["status"]["recent_events"].values()),
    ]
    assert max(times) < now
    assert state["status"]["last_sync_duration_ms"] == 42, "both times are the platform's"


async def test_an_error_of_the_future_is_over_with_the_next_sync(writer: DatabaseWriter) -> None:
    await writer.sync(created_at=shown_by(3 * HOUR), error_message="no answer")
    assert (await status_of(writer))["error_message"] == "no answer"
    await writer.sync(created_at=shown_by(timedelta(0)))
    assert "error_message" not in await status_of(writer)


async def test_a_rate_of_the_future_does_not_hold_up_those_after_it(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, currency="GBP")
    await writer.sync()
    await writer.rate("USD", "GBP", "0.5", created_at=shown_by(3 * HOUR))
    await writer.rate("USD", "GBP", "0.8", created_at=shown_by(timedelta(0)))
    assert (await writer.book())["1"]["unrealized_pnl"] == 42.0


async def test_the_newest_rate_in_either_direction_converts(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, currency="SEK")
    await writer.sync()
    await writer.rate("USD", "SEK", 8, second=-3600)
    await writer.rate("SEK", "USD", "0.1", second=1)
    assert (await writer.book())["1"]["unrealized_pnl"] == 525.0
    await writer.rate("USD", "SEK", 12, second=2)
    assert (await writer.book())["1"]["unrealized_pnl"] == 630.0


# ---------------------------------------------------------------- steps back


async def test_the_third_row_that_is_late_by_as_much_shows_that_the_clock_went_back(
    writer: DatabaseWriter,
) -> None:
    await writer.sync(created_at=shown_by(timedelta(0)), current_price=1960)
    for price in (1941, 1942):
        await writer.sync(created_at=shown_by(-HOUR), current_price=price)
        assert (await writer.book())["1"]["current_price"] == 1960
        assert await is_stale(writer)
    assert "counts_at_arrival" not in await status_of(writer)
    await writer.sync(created_at=shown_by(-HOUR), current_price=1943)
    assert (await writer.book())["1"]["current_price"] == 1943
    assert (await status_of(writer))["counts_at_arrival"] is True
    assert not await is_stale(writer)
    await writer.sync(created_at=shown_by(-HOUR), current_price=1944)
    assert (await writer.book())["1"]["current_price"] == 1944, "rows count at their arrival from then on"


async def test_every_position_follows_a_clock_that_is_known_to_have_gone_back(writer: DatabaseWriter) -> None:
    for ticket in (1, 2):
        await writer.sync(ticket=ticket, created_at=shown_by(timedelta(0)))
    for _ in range(3):
        await writer.sync(created_at=shown_by(-HOUR))
    await writer.sync(ticket=2, created_at=shown_by(-HOUR), current_price=1943)
    assert (await writer.book())["2"]["current_price"] == 1943


@pytest.mark.parametrize(
    "late_seconds",
    [[3600, 3590, 3580], [3600, 3601], [3600, 3601, 3600 + 27 * 3600], [27 * 3600] * 4],
    ids=["an import", "two rows", "a row that no clock explains", "rows of the day before yesterday"],
)
async def test_late_rows_that_show_no_step_are_ignored(
    writer: DatabaseWriter, late_seconds: list[int]
) -> None:
    await writer.sync(created_at=shown_by(timedelta(0)), current_price=1960)
    for seconds in late_seconds:
        await writer.sync(created_at=shown_by(timedelta(seconds=-seconds)), current_price=1940)
    assert (await writer.book())["1"]["current_price"] == 1960
    assert (await writer.account())["clock_stepped_at"] is None


async def test_a_row_between_them_that_is_not_late_begins_the_count_anew(writer: DatabaseWriter) -> None:
    await writer.sync(created_at=shown_by(timedelta(0)))
    for late in (True, True, False, True, True):
        await writer.sync(created_at=shown_by(-HOUR if late else timedelta(0)))
    assert (await writer.account())["clock_stepped_at"] is None


async def test_nothing_is_normal_while_the_clock_is_in_doubt(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, created_at=shown_by(timedelta(0)))
    await writer.sync(created_at=shown_by(timedelta(0)))
    assert (await writer.drawdown())["alert_type"] == "normal"
    await writer.sync(created_at=shown_by(-HOUR))
    guards = (await writer.state())["guards"]
    assert (guards["drawdown"]["alert_type"], guards["system_status"]) == ("unknown", "unknown")
    await writer.sync(created_at=shown_by(timedelta(0)))
    assert (await writer.drawdown())["alert_type"] == "normal"
    assert not await is_stale(writer)


async def test_rows_that_overtake_each_other_by_seconds_put_nothing_in_doubt(writer: DatabaseWriter) -> None:
    await writer.sync(created_at=shown_by(timedelta(0)))
    await writer.sync(created_at=shown_by(timedelta(seconds=-3)))
    assert not await is_stale(writer)


async def test_a_row_that_was_ignored_is_no_sign_of_life(writer: DatabaseWriter) -> None:
    await writer.sync(created_at=shown_by(timedelta(0)))
    before = await writer.account()
    await writer.sync(created_at=shown_by(-HOUR))
    after = await writer.account()
    for column in ("last_sync_at", "last_sync_arrived_at"):
        assert after[column] == before[column]
    assert after["total_syncs"] == 2, "it is a sync all the same"


async def test_equity_follows_a_clock_that_syncs_showed_to_have_gone_back(writer: DatabaseWriter) -> None:
    """Also where no more than the amount differs, and the row is young enough to be no import."""
    minute = timedelta(minutes=1)
    await writer.equity(10_000, created_at=shown_by(-3 * minute))
    await writer.sync(created_at=shown_by(timedelta(0)))
    for price in (1941, 1942, 1943):
        await writer.sync(created_at=shown_by(-2 * minute), current_price=price)
    await writer.equity(9_990, created_at=shown_by(-2 * minute))
    checked_at = datetime.fromisoformat((await writer.drawdown())["last_checked_at"])
    assert checked_at > shown_by(-minute)


async def test_rates_follow_a_clock_that_went_back(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, currency="GBP")
    await writer.sync()
    await writer.rate("USD", "GBP", "0.5", created_at=shown_by(timedelta(0)))
    for rate, pnl in (("0.6", 26.25), ("0.7", 26.25), ("0.8", 42.0), ("0.9", 47.25)):
        await writer.rate("USD", "GBP", rate, created_at=shown_by(-HOUR))
        assert (await writer.book())["1"]["unrealized_pnl"] == pnl, rate


async def test_accounts_whose_profit_an_ignored_rate_converts_are_stale(writer: DatabaseWriter) -> None:
    other = writer.of()
    for account, currency in ((writer, "GBP"), (other, "USD")):
        await account.equity(10_000, currency=currency)
        await account.sync()
    await writer.rate("USD", "GBP", "0.5", created_at=shown_by(timedelta(0)))
    stale = []
    for seconds in (3, 3600, 3600, 3600):
        await writer.rate("USD", "GBP", "0.6", created_at=shown_by(timedelta(seconds=-seconds)))
        stale.append(await is_stale(writer))
    assert stale == [False, True, True, False], "the third one shows that the clock went back"
    await writer.rate("GBP", "USD", "1.6", created_at=shown_by(timedelta(0)))
    await writer.rate("GBP", "USD", "1.7", created_at=shown_by(-HOUR))
    assert await is_stale(writer)
    assert not await is_stale(other)
    await writer.rate("GBP", "USD", "1.6", created_at=shown_by(timedelta(0)))
    assert not await is_stale(writer)


async def test_one_batch_and_several_come_to_the_same(writer: DatabaseWriter) -> None:
    """Ignored rows, a step and rows after it, of two tickets in turn."""
    books = []
    for batches in (1, 6):
        account = writer.of()
        account.applies = False
        for at in range(12):
            late = timedelta(0) if at < 2 else -HOUR
            await account.sync(ticket=at % 2 + 1, created_at=shown_by(late), current_price=1900 + at)
            if batches > 1 and at % 2:
                await account.apply()
        await account.apply()
        positions = [await account.position(ticket) for ticket in (1, 2)]
        books.append([(p["current_price"], p["older_rows"]) for p in positions])
    assert books[0] == books[1]
    assert [price for price, _ in books[0]] == [1910, 1911]


async def test_a_rebuild_knows_what_was_known_of_the_clock(writer: DatabaseWriter) -> None:
    await writer.sync(created_at=shown_by(timedelta(0)), current_price=1960)
    for price in (1941, 1942, 1943, 1944):
        await writer.sync(created_at=shown_by(-HOUR), current_price=price)
    before = await writer.state()
    await rebuild(writer.connection, writer.user_id)
    after = await writer.state()
    assert after == before
    await writer.sync(created_at=shown_by(-HOUR), current_price=1945)
    assert (await writer.book())["1"]["current_price"] == 1945


async def test_a_doubt_that_equity_ended_is_not_raised_again_by_a_rebuild(writer: DatabaseWriter) -> None:
    await writer.sync(created_at=shown_by(timedelta(0)))
    await writer.equity(10000, created_at=shown_by(timedelta(0)))
    await writer.sync(created_at=shown_by(-HOUR))
    assert await is_stale(writer)
    await writer.equity(10000, created_at=shown_by(timedelta(0)))
    before = await writer.state()
    assert not await is_stale(writer)
    await rebuild(writer.connection, writer.user_id)
    assert await writer.state() == before
    assert not await is_stale(writer)


@pytest.mark.parametrize("row", ["sync", "close", "warning", "loop"])
async def test_a_doubt_that_a_row_of_the_log_ended_is_not_raised_again_by_a_rebuild(
    writer: DatabaseWriter, row: str
) -> None:
    await writer.sync(created_at=shown_by(timedelta(0)))
    await writer.equity(10_000, created_at=shown_by(timedelta(0)))
    await writer.equity(10_000, created_at=shown_by(-HOUR))
    assert await is_stale(writer)
    columns: dict[str, Any] = {"ticket": None} if row == "loop" else {"event_type": row}
    await writer.sync(created_at=shown_by(timedelta(0)), **columns)
    assert not await is_stale(writer)
    await rebuild(writer.connection, writer.user_id)
    assert not await is_stale(writer)


@pytest.mark.parametrize("second", ["log", "equity"])
@pytest.mark.parametrize("end", ["log", "equity"])
@pytest.mark.parametrize("first", ["log", "equity"])
async def test_a_doubt_after_one_that_has_ended_outlives_a_rebuild(
    writer: DatabaseWriter, first: str, end: str, second: str
) -> None:
    async def write(source: str, clock: timedelta) -> None:
        if source == "log":
            await writer.sync(created_at=shown_by(clock))
        else:
            await writer.equity(10_000, created_at=shown_by(clock))

    await write("log", timedelta(0))
    await write("equity", timedelta(0))
    await write(first, -HOUR)
    await write(end, timedelta(0))
    assert not await is_stale(writer)
    await write(second, -2 * HOUR)
    assert await is_stale(writer)
    await rebuild(writer.connection, writer.user_id)
    assert await is_stale(writer)


@pytest.mark.parametrize("doubted", ["log", "equity"])
async def test_a_doubt_that_no_row_ended_outlives_a_rebuild(writer: DatabaseWriter, doubted: str) -> None:
    """The rows after it are later than all rows of their own kind, but not than those of the other."""
    latest = {"log": timedelta(seconds=-2), "equity": timedelta(0)}
    if doubted == "equity":
        latest = {"log": timedelta(0), "equity": timedelta(seconds=-2)}
    now = datetime.now(UTC)
    await writer.sync(created_at=now + latest["log"])
    await writer.equity(10_000, created_at=now + latest["equity"])
    if doubted == "log":
        await writer.sync(created_at=now - HOUR)
        await writer.sync(created_at=now - timedelta(seconds=1))
    else:
        await writer.equity(10_000, created_at=now - HOUR)
        await writer.equity(10_000, created_at=now - timedelta(seconds=1))
    assert await is_stale(writer)
    await rebuild(writer.connection, writer.user_id)
    assert await is_stale(writer)


# ---------------------------------------------------------------- the offset is said


@pytest.mark.parametrize(
    ("clock", "said"), [(3 * HOUR, -10800), (-2 * HOUR, 7200), (timedelta(seconds=-61), 61)]
)
async def test_a_clock_that_is_off_is_said(writer: DatabaseWriter, clock: timedelta, said: int) -> None:
    for number in range(5):
        await writer.sync(created_at=shown_by(clock), current_price=1950 + number)
    status = await status_of(writer)
    assert status["clock_offset_seconds"] == pytest.approx(said, abs=5), "rows take a moment to arrive"
    notices = [
        e["description"] for e in status["recent_events"].values() if e.get("notice") == "clock_offset"
    ]
    words = {-10800: "3 h ahead", 7200: "2 h behind", 61: "1 min behind"}[said]
    assert notices == [f"The platform's clock is {words}"], "a steady offset is said once"


async def test_a_clock_that_is_nearly_right_is_not_mentioned(writer: DatabaseWriter) -> None:
    for number in range(6):
        await writer.sync(created_at=shown_by(timedelta(seconds=-40)), current_price=1950 + number)
    assert "clock_offset_seconds" not in await status_of(writer)


async def test_the_offset_changes_when_it_moves_by_more_than_half_a_minute(writer: DatabaseWriter) -> None:
    async def syncs(seconds: int) -> Any:
        for number in range(5):
            at = shown_by(timedelta(seconds=-seconds))
            await writer.sync(ticket=seconds, created_at=at, current_price=1950 + number)
        return (await status_of(writer)).get("clock_offset_seconds")

    said = [await syncs(seconds) for seconds in (100, 120, 140, 20)]
    assert said == [pytest.approx(100, abs=5), said[0], pytest.approx(140, abs=5), None]


async def test_an_import_says_nothing_about_the_clock(writer: DatabaseWriter) -> None:
    for day in range(2, 8):
        await writer.sync(ticket=day, created_at=shown_by(-24 * day * HOUR))
    assert "clock_offset_seconds" not in await status_of(writer)


async def test_syncs_of_a_clock_whose_offset_is_known_are_plain(writer: DatabaseWriter) -> None:
    for number in range(8):
        await writer.sync(created_at=shown_by(3 * HOUR), current_price=1950 + number)
    assert (await writer.account())["recent_offsets"] is None
    await writer.connection.execute("UPDATE guardwire.accounts SET base_revision = NULL")
    writer.applies = False
    await writer.sync(created_at=shown_by(3 * HOUR), current_price=1970)
    batch = await writer.connection.fetchval(_CLASSIFIED)
    assert batch["is_plain"] is True


# ---------------------------------------------------------------- life, silence and ghosts


async def test_a_flat_account_that_writes_equity_is_live(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 1)
    assert (await status_of(writer))["source"] == "live"
    await writer.connection.execute("UPDATE guardwire.accounts SET source = 'silent'")
    await writer.equity(10_001, 2)
    assert (await status_of(writer))["source"] == "live"


async def test_a_flat_account_whose_equity_just_arrived_is_live_after_a_rebuild(
    writer: DatabaseWriter,
) -> None:
    """However far behind the platform's clock is."""
    await writer.equity(10_000, created_at=shown_by(-HOUR))
    assert (await status_of(writer))["source"] == "live"
    await rebuild(writer.connection, writer.user_id)
    assert (await status_of(writer))["source"] == "live"


async def test_equity_is_no_sign_of_life_while_a_position_is_open(writer: DatabaseWriter) -> None:
    await writer.sync()
    await writer.equity(10_000, 1)
    await writer.connection.execute("UPDATE guardwire.accounts SET source = 'silent'")
    await writer.equity(10_001, 2)
    assert (await status_of(writer))["source"] == "silent"


@pytest.mark.parametrize("ticket", [None, 0])
async def test_a_sync_without_a_ticket_says_that_the_loop_ran(
    writer: DatabaseWriter, ticket: int | None
) -> None:
    await writer.sync(ticket=ticket, symbol=None, current_price=None)
    status = await status_of(writer)
    assert (status["source"], status["total_syncs"], status["open_positions_count"]) == ("live", 1, 0)
    assert "last_sync_at" in status
    assert await writer.rows("ignored_rows") == []


async def look(writer: DatabaseWriter) -> int:
    """Housekeeping, when the account is due to be looked at; how many positions it marked."""
    await writer.connection.execute("UPDATE guardwire.accounts SET sync_due_at = clock_timestamp()")
    return (await housekeep(writer.connection)).unconfirmed


async def test_a_position_that_is_no_longer_mentioned_is_marked(writer: DatabaseWriter) -> None:
    await writer.sync(0, ticket=1)
    await writer.sync(0, ticket=2)
    await writer.sync(50, ticket=2)
    assert await look(writer) == 0
    await writer.set_limits(sync_overdue_seconds=40)
    before = await writer.revision()
    assert await look(writer) == 1
    assert await writer.revision() > before
    state = await writer.state()
    book, status = state["positions"]["open"], state["status"]
    assert book["1"]["unconfirmed_since"] == book["1"]["entry_time"]
    assert "unconfirmed_since" not in book["2"]
    assert status["status"] == "warning"
    assert status["error_message"] == "1 position is no longer mentioned by the platform: XAUUSD #1"
    assert "position_unconfirmed" in [e.get("notice") for e in status["recent_events"].values()]
    assert await look(writer) == 0, "a mark is set once"


@pytest.mark.parametrize("row", ["sync", "close"])
async def test_the_next_row_of_a_position_ends_the_mark(writer: DatabaseWriter, row: str) -> None:
    await writer.set_limits(sync_overdue_seconds=40)
    await writer.sync(0, ticket=1)
    await writer.sync(50, ticket=2)
    assert await look(writer) == 1
    await (writer.sync if row == "sync" else writer.close)(51, ticket=1)
    state = await writer.state()
    assert not any("unconfirmed_since" in each for each in state["positions"]["open"].values())
    assert state["status"]["status"] == "healthy"


async def test_a_position_of_a_platform_that_is_silent_is_no_ghost(writer: DatabaseWriter) -> None:
    await writer.set_limits(sync_overdue_seconds=40)
    await writer.sync(0, ticket=1)
    await writer.sync(1, ticket=2)
    assert await look(writer) == 0


# ---------------------------------------------------------------- what is wrong is said


async def test_a_warning_always_has_words(writer: DatabaseWriter) -> None:
    await writer.sync(ticket=12346, symbol="EURUSD", matched=2)
    status = await status_of(writer)
    assert (status["status"], status["error_message"]) == (
        "warning",
        "1 position diverges from the broker: EURUSD #12346",
    )
    for ticket in range(1, 5):
        await writer.sync(ticket=ticket, matched=2)
    assert (await status_of(writer))["error_message"] == (
        "5 positions diverge from the broker: XAUUSD #1, XAUUSD #2, XAUUSD #3 and 2 more"
    )
    await writer.sync(1, ticket=1, matched=2, error_message="no answer")
    assert (await status_of(writer))["error_message"] == "no answer"


async def test_an_account_without_any_row_says_so(writer: DatabaseWriter) -> None:
    assert (await status_of(writer))["recorded"] is False
    await writer.equity(10_000)
    assert "recorded" not in await status_of(writer)


@pytest.mark.parametrize(("matched", "shown"), [(2, 2), (0, 0)])
async def test_positions_that_do_not_match_are_seen_and_are_in_no_sum(
    writer: DatabaseWriter, matched: int, shown: Any
) -> None:
    await writer.equity(10_000)
    await writer.sync(ticket=1)
    await writer.sync(ticket=2, matched=matched, divergence_reason="volume differs")
    positions = (await writer.state())["positions"]
    assert (positions["total_positions"], positions["total_unrealized_pnl"]) == (1, 52.5)
    unmatched = positions["unmatched"]["2"]
    assert (unmatched["matched"], unmatched["divergence_reason"]) == (shown, "volume differs")
    assert unmatched["unrealized_pnl"] == 52.5


# ---------------------------------------------------------------- times that are corrected in place


async def test_a_row_whose_time_is_corrected_is_read_again_and_is_no_more_arrival(
    writer: DatabaseWriter,
) -> None:
    await writer.sync(0, current_price=1951)
    right = await writer.sync(10, current_price=1952)
    wrong = await writer.sync(20, current_price=1940)
    arrivals = len(await writer.rows("arrivals"))
    await writer.update(wrong, created_at=writer.at(5))
    assert (await writer.book())["1"]["current_price"] == 1952
    assert len(await writer.rows("arrivals")) == arrivals
    await writer.update(right, created_at=writer.at(4))
    assert (await writer.book())["1"]["current_price"] == 1940


async def test_a_correction_that_also_closes_is_an_arrival(writer: DatabaseWriter) -> None:
    first = await writer.sync(0)
    await writer.update(first, created_at=writer.at(1), close_reason="tp")
    assert await writer.book() == {}


async def test_a_position_whose_time_is_corrected_keeps_its_id_and_its_events(writer: DatabaseWriter) -> None:
    first = await writer.sync(5)
    other = await writer.sync(6, ticket=2)
    second = await writer.sync(8, stop_loss=1940)
    await writer.update(second, created_at=writer.at(7))
    assert (await writer.book())["1"]["position_id"] == str(first)
    events = {row["event_id"]: row["created_at"] for row in await writer.rows("events")}
    assert events == {str(first): writer.at(5), str(other): writer.at(6), str(second): writer.at(7)}

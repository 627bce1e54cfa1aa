"""The simulated platform writes plausible rows, and the same rows for the same seed."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import replace

import pytest

from realtime.simulator import SimulatorOptions, demo_user_id
from realtime.simulator.rows import LogRow
from tests.simulator.played import play

CALM = SimulatorOptions(divergences=0, closes=0, drawdowns=0, guard_triggers=0, failed_syncs=0)


def told(row: LogRow) -> LogRow:
    """A row without its ids, which differ in each run."""
    nobody = demo_user_id(0)
    return row._replace(id=nobody, signal_id=None, approval_id=None)


def test_the_same_seed_tells_the_same_story_and_another_one_does_not() -> None:
    options = SimulatorOptions(seed=5)
    runs = (options, options, replace(options, seed=6))
    stories = [[told(at.row) for at in play(each, seconds=20).log] for each in runs]
    assert stories[0] == stories[1]
    assert stories[0] != stories[2]


def test_ids_are_never_the_same_twice() -> None:
    ids = [at.row.id for _ in range(2) for at in play(SimulatorOptions(), seconds=10).log]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("rate", [0.5, 20, 1000])
def test_the_rate_is_kept(rate: float) -> None:
    assert len(play(SimulatorOptions(rows_per_second=rate), seconds=20).log) == rate * 20


def test_a_position_of_the_first_account_moves_every_second_even_among_many_accounts() -> None:
    played = play(SimulatorOptions(users=500, rows_per_second=50), seconds=20)
    seconds = Counter(int(at.second) for at in played.first_account)
    assert set(range(1, 20)) <= set(seconds)
    prices: dict[int | None, set[object]] = {}
    for at in played.first_account:
        prices.setdefault(at.row.mt5_position_id, set()).add(at.row.current_price)
    assert statistics.mean(len(seen) for seen in prices.values()) > 3


def test_whoever_opens_the_demo_sees_each_kind_of_thing_within_the_first_minutes() -> None:
    played = play(SimulatorOptions(), seconds=100)
    kinds = {at.row.event_type for at in played.first_account if at.second < 60}
    assert kinds == {"sync", "divergence", "guard_trigger", "close"}
    triggers = [at.row for at in played.first_account if at.row.event_type == "guard_trigger"]
    words = " ".join(row.divergence_reason or "" for row in triggers)
    assert "spread" in words
    assert "gap" in words
    assert any(at.row.status == "failed" for at in played.first_account)


def test_the_first_account_falls_through_its_limits_and_recovers() -> None:
    played = play(SimulatorOptions(), seconds=320)
    peak, falls = 0.0, []
    for row in played.equity:
        if row.user_id == demo_user_id(0):
            peak = max(peak, float(row.equity))
            falls.append(100 * (1 - float(row.equity) / peak))
    assert max(falls[:140]) == pytest.approx(17, abs=1.5)
    assert 20 < max(falls) < 26
    assert falls[-1] < 3


def test_equity_is_the_balance_and_all_floating_profit() -> None:
    played = play(CALM, seconds=30)
    (account, *_) = played.platform.accounts
    last = [row for row in played.equity if row.user_id == account.user_id][-1]
    assert last.balance == 25_000
    assert abs(float(last.equity - last.balance)) < 2_500
    assert last.equity != last.balance


def test_a_divergence_clears() -> None:
    played = play(replace(CALM, divergences=30), seconds=55)
    diverging = [at for at in played.first_account if at.row.event_type == "divergence"]
    ticket = diverging[0].row.mt5_position_id
    after = [at.row for at in played.first_account if at.row.mt5_position_id == ticket][-1]
    assert {at.row.matched for at in diverging} == {2}
    assert (after.event_type, after.matched) == ("sync", 1)


def test_a_closed_position_gives_way_to_a_new_one() -> None:
    played = play(replace(CALM, closes=3_000), seconds=60)
    closed = {at.row.mt5_position_id for at in played.log if at.row.event_type == "close"}
    opened = {at.row.mt5_position_id for at in played.log} - {row.mt5_position_id for row in played.opening}
    assert len(closed) > 20
    assert len(opened) > 20
    last_words = {at.row.mt5_position_id: at.row.event_type for at in played.log}
    assert {last_words[ticket] for ticket in closed} == {"close"}
    books = [len(account.book) for account in played.platform.accounts]
    assert sum(books) > 10


def test_nothing_happens_that_was_not_asked_for() -> None:
    played = play(CALM, seconds=300)
    assert {at.row.event_type for at in played.log} == {"sync"}
    assert {at.row.status for at in played.log} == {"success"}
    assert {row.mt5_position_id for row in played.opening} == {at.row.mt5_position_id for at in played.log}


def test_a_row_of_a_ticket_is_never_older_than_the_one_before() -> None:
    played = play(SimulatorOptions(rows_per_second=100), seconds=60)
    last: dict[int | None, object] = {}
    for _, row in played.log:
        if row.mt5_position_id is not None:
            assert row.created_at is not None
            assert row.mt5_position_id not in last or row.created_at > last[row.mt5_position_id]  # type: ignore[operator]
            last[row.mt5_position_id] = row.created_at


def test_closes_can_be_updates_in_place() -> None:
    played = play(replace(CALM, closes=3_000, updates_in_place=1.0), seconds=60)
    written = {at.row.id: at.row for at in played.log} | {row.id: row for row in played.opening}
    assert len(played.closes) > 20
    assert not any(at.row.event_type == "close" for at in played.log)
    assert all(written[close.id].event_type == "sync" for close in played.closes)


def test_odd_rows_come_beside_the_others_and_on_tickets_of_their_own() -> None:
    played = play(replace(CALM, odd_rows=0.5), seconds=60)
    assert len(played.log) == 1200
    assert 500 < len(played.odd) < 700
    assert not {row.mt5_position_id for row in played.odd} & {at.row.mt5_position_id for at in played.log}


def test_options_that_cannot_be_are_refused_all_at_once() -> None:
    with pytest.raises(ValueError, match="closes may not be negative; users must be more than 0; odd_rows"):
        SimulatorOptions(users=0, closes=-1, odd_rows=2)

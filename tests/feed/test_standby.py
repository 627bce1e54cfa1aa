"""How far a standby is replayed, by the probes that it shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from realtime.feed.standby import Replay, Replayed

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """The primary's time so long after noon."""
    return NOON + timedelta(seconds=seconds)


def probed(*seconds: float) -> Replay:
    """Probes that were sent at these seconds here, reached the primary 0.1 s later, and were confirmed after 0.2 s."""
    replay = Replay()
    for second in seconds:
        replay.note_sent(at(second + 0.1), sent_at=second, committed_at=second + 0.2)
    return replay


def test_nothing_is_known_before_the_first_probe_is_replayed() -> None:
    replay = probed(1.0)
    assert not replay.note_seen(at(0))
    assert replay.replayed == Replayed(float("-inf"), None)
    assert not replay.replayed.is_gone(0)


def test_a_probe_confirms_the_moment_when_it_was_sent() -> None:
    replay = probed(1.0, 1.5, 2.0)
    assert replay.note_seen(at(1.6))
    assert replay.replayed == (1.5, at(1.6))
    assert not replay.note_seen(at(1.6))


def test_a_later_probe_of_another_node_confirms_those_before_it_and_no_later_one() -> None:
    replay = probed(1.0, 1.5, 2.0)
    assert replay.note_seen(at(1.9))
    assert replay.replayed.read_at == 1.5


def test_an_older_probe_than_before_changes_nothing() -> None:
    replay = probed(1.0, 1.5)
    replay.note_seen(at(1.6))
    assert not replay.note_seen(at(1.1))
    assert replay.replayed.read_at == 1.5


def test_the_lag_counts_from_the_commit_of_the_oldest_probe_that_is_not_replayed() -> None:
    replay = probed(1.0, 1.5)
    assert replay.lag_seconds(3.2) == pytest.approx(2.0)
    replay.note_seen(at(1.1))
    assert replay.lag_seconds(3.2) == pytest.approx(1.5)
    replay.note_seen(at(1.6))
    assert replay.lag_seconds(3.2) == pytest.approx(0.0)


def test_a_revision_that_is_not_shown_is_lost_only_when_much_later_commits_are_replayed() -> None:
    replay = probed(1.0)
    replay.note_seen(at(1.1))
    revision = int(at(1.1).timestamp() * 1e6)
    assert not replay.replayed.is_gone(revision - 9_000_000)
    assert not replay.replayed.is_gone(revision + 1)
    assert replay.replayed.is_gone(revision - 11_000_000)

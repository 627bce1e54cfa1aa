"""The hub: what is watched, what is known of freshness, and who is woken."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import pytest

from guardwire.state import CHANNELS
from realtime.delivery.hub import IDLE_SECONDS, WATCHED_AFTER_SECONDS, Hub
from realtime.delivery.watched_account import UNKNOWN_AGE_MS
from realtime.errors import UnavailableError
from realtime.history import Step, Stored
from realtime.snapshot import Freshness, Snapshot
from tests.snapshots import AS_OF, OTHER_USER, USER, snapshot


class Client:
    """Records what the hub calls."""

    def __init__(self) -> None:
        self.woken: list[int] = []
        self.stale: list[bool] = []

    def wake(self, newest: Snapshot, fresh: Freshness, now: float) -> None:
        self.woken.append(newest.revision)

    def mark_stale(self, now: float, *, stale: bool) -> None:
        self.stale.append(stale)


class Marks(list[UUID]):
    """Accounts that the hub asked to be read."""


@pytest.fixture
def marks() -> Marks:
    return Marks()


@pytest.fixture
def hub(marks: Marks) -> Hub:
    return Hub(mark_dirty=marks.append, stale_seconds=2.0)


def publish(hub: Hub, new: Snapshot, base: Snapshot | None = None, *, ago_seconds: float = 0.0) -> None:
    hub.publish([Step(new, base)], as_of=AS_OF, read_at=time.monotonic() - ago_seconds)


def test_a_newly_watched_account_is_marked_to_be_read_once(hub: Hub, marks: Marks) -> None:
    hub.attach(USER, Client())
    hub.attach(USER, Client())
    assert marks == [USER]
    assert list(hub.watched()) == [(USER, -1)]


def test_a_snapshot_wakes_every_client_of_its_account_and_no_other_client(hub: Hub) -> None:
    mine, too, other = Client(), Client(), Client()
    hub.attach(USER, mine)
    hub.attach(USER, too)
    hub.attach(OTHER_USER, other)
    publish(hub, snapshot(5))
    assert (mine.woken, too.woken, other.woken) == ([5], [5], [])


def test_an_older_snapshot_never_replaces_a_newer_one(hub: Hub) -> None:
    client = Client()
    watch = hub.attach(USER, client)
    publish(hub, snapshot(5))
    publish(hub, snapshot(4))
    assert watch.revision == 5
    assert client.woken == [5]


def test_a_newer_epoch_replaces_a_higher_revision(hub: Hub) -> None:
    watch = hub.attach(USER, Client())
    publish(hub, snapshot(5))
    publish(hub, snapshot(3, epoch=10))
    assert watch.revision == 3


def test_a_hint_counts_only_for_a_watched_account_that_is_behind_it(hub: Hub) -> None:
    hub.attach(USER, Client())
    publish(hub, snapshot(5))
    assert not hub.is_news(USER, 5)
    assert not hub.is_news(OTHER_USER, 6)
    assert hub.is_news(USER, 6)


def test_age_is_that_of_the_sweep_which_confirmed_the_account(hub: Hub) -> None:
    watch = hub.attach(USER, Client())
    publish(hub, snapshot(5), ago_seconds=60)
    now = time.monotonic()
    assert watch.freshness(now).age_ms >= 59_000
    hub.confirm("2026-01-05T11:00:00.000000Z", now - 0.5, changed=[])
    assert watch.freshness(now) == ("2026-01-05T11:00:00.000000Z", 500)


def test_a_sweep_does_not_confirm_an_account_that_it_found_changed(hub: Hub) -> None:
    watch = hub.attach(USER, Client())
    publish(hub, snapshot(5), ago_seconds=60)
    hub.confirm(AS_OF, time.monotonic(), changed=[(USER, 5, 6)])
    assert watch.freshness(time.monotonic()).age_ms >= 59_000


def test_a_sweep_that_began_before_rows_were_found_to_wait_does_not_end_the_wait(hub: Hub) -> None:
    """Such a sweep did not ask for the account, of which nothing had been delivered."""
    watch = hub.attach(USER, Client())
    began = time.monotonic()
    hub.publish([Step(snapshot(5), None)], as_of=AS_OF, read_at=began, unapplied=frozenset({USER}))
    hub.confirm(AS_OF, began, changed=[])
    assert watch.stale
    hub.confirm(AS_OF, time.monotonic(), changed=[])
    assert not watch.stale


def test_staleness_is_reported_once_when_sweeps_stop_and_once_when_they_go_on(hub: Hub) -> None:
    client = Client()
    hub.attach(USER, client)
    publish(hub, snapshot(5))
    now = time.monotonic()
    hub.confirm(AS_OF, now, changed=[])
    hub.tick(now + 1.0)
    assert client.stale == []
    hub.tick(now + 2.5)
    hub.tick(now + 2.75)
    assert client.stale == [True]
    hub.confirm(AS_OF, now + 3.0, changed=[])
    hub.tick(now + 3.25)
    assert client.stale == [True, False]


def test_an_account_that_was_read_just_before_sweeps_stopped_goes_stale_too(hub: Hub) -> None:
    client, now = Client(), time.monotonic()
    hub.attach(USER, client)
    hub.confirm(AS_OF, now, changed=[])
    hub.publish([Step(snapshot(1), None)], as_of=AS_OF, read_at=now + 1.0)
    hub.tick(now + 2.5)
    assert client.stale == []
    hub.tick(now + 3.5)
    assert client.stale == [True]


def test_an_account_that_cannot_be_read_goes_stale_while_others_stay_fresh(hub: Hub) -> None:
    failing, well = Client(), Client()
    hub.attach(USER, failing)
    hub.attach(OTHER_USER, well)
    for user in (USER, OTHER_USER):
        publish(hub, snapshot(5, user_id=user))
    now = time.monotonic()
    hub.tick(now)
    for second in range(1, 5):
        hub.confirm(AS_OF, now + second, changed=[(USER, 5, 6)])
        hub.tick(now + second)
    assert (failing.stale, well.stale) == ([True], [])


def test_an_account_is_forgotten_when_no_client_has_read_it_for_a_while(hub: Hub) -> None:
    client = Client()
    watch = hub.attach(USER, client)
    now = time.monotonic()
    hub.tick(now + WATCHED_AFTER_SECONDS + 5)
    assert hub.is_watched(USER)
    hub.detach(watch, client)
    hub.tick(time.monotonic() + WATCHED_AFTER_SECONDS - 5)
    assert hub.is_watched(USER)
    hub.tick(time.monotonic() + 2 * WATCHED_AFTER_SECONDS)
    assert not hub.is_watched(USER)


async def test_the_first_snapshot_is_waited_for(hub: Hub) -> None:
    hub.confirm(AS_OF, time.monotonic(), changed=[])
    watch = hub.reading(USER)
    waiting = [asyncio.create_task(watch.first_snapshot(None, time.monotonic())) for _ in range(3)]
    await asyncio.sleep(0)
    publish(hub, snapshot(5))
    assert {found.revision for found in await asyncio.gather(*waiting)} == {5}


class Memory:
    """Snapshots that are in Redis."""

    def __init__(self, stored: dict[UUID, Stored]) -> None:
        self._stored = stored
        self.available = True

    async def load(self, user_ids: list[UUID]) -> dict[UUID, Stored]:
        return {user_id: self._stored[user_id] for user_id in user_ids if user_id in self._stored}


async def test_while_the_database_is_gone_what_redis_remembers_is_served_and_called_stale(hub: Hub) -> None:
    hub.confirm(AS_OF, time.monotonic() - 60, changed=[])
    watch = hub.reading(USER)
    found = await watch.first_snapshot(Memory({USER: Stored(snapshot(5), ())}), time.monotonic())
    assert found.revision == 5
    assert watch.stale
    assert watch.freshness(time.monotonic()) == (AS_OF, UNKNOWN_AGE_MS)
    # It was not read by this node, so any revision that a sweep finds is news.
    assert watch.revision == -1


async def test_a_client_of_a_node_that_has_just_started_waits_for_its_first_read(hub: Hub) -> None:
    waiting = asyncio.create_task(hub.reading(USER).first_snapshot(None, time.monotonic()))
    # Longer than a blind node would wait.
    await asyncio.sleep(0.3)
    publish(hub, snapshot(5))
    assert (await waiting).revision == 5


async def test_while_a_crowd_is_read_for_a_late_sweep_does_not_turn_clients_away(hub: Hub) -> None:
    hub.confirm(AS_OF, time.monotonic() - 60, changed=[])
    hub.attach(OTHER_USER, Client())
    publish(hub, snapshot(5, user_id=OTHER_USER))
    waiting = asyncio.create_task(hub.reading(USER).first_snapshot(None, time.monotonic()))
    # Longer than a blind node would wait.
    await asyncio.sleep(0.3)
    publish(hub, snapshot(5))
    assert (await waiting).revision == 5


async def test_a_node_that_stood_still_does_not_take_itself_for_blind(hub: Hub) -> None:
    now = time.monotonic()
    hub.confirm(AS_OF, now - 60, changed=[])
    hub.tick(now - 5)
    assert hub.is_answered(now)
    hub.tick(now)
    assert hub.is_answered(now + 1)
    for later in range(1, 10):
        hub.tick(now + later / 2)
    assert not hub.is_answered(now + 5)


async def test_a_client_waits_a_while_for_an_account_that_is_in_no_memory(hub: Hub) -> None:
    hub.confirm(AS_OF, time.monotonic() - 60, changed=[])
    waiting = asyncio.create_task(hub.reading(USER).first_snapshot(Memory({}), time.monotonic()))
    # Longer than a blind node waits before it asks its memory.
    await asyncio.sleep(0.5)
    publish(hub, snapshot(5))
    assert (await waiting).revision == 5


async def test_without_database_and_memory_there_is_no_answer(hub: Hub) -> None:
    hub.confirm(AS_OF, time.monotonic() - 60, changed=[])
    with pytest.raises(UnavailableError):
        await hub.reading(USER).first_snapshot(Memory({}), time.monotonic())


async def test_a_first_read_is_not_awaited_for_long_once_the_database_stops_answering(hub: Hub) -> None:
    """Clients give up after 10 s."""
    hub.confirm(AS_OF, time.monotonic(), changed=[])
    waiting = asyncio.create_task(hub.reading(USER).first_snapshot(Memory({}), time.monotonic()))
    async with asyncio.timeout(8):
        while not waiting.done():
            hub.tick(time.monotonic())
            await asyncio.sleep(0.05)
    assert isinstance(waiting.exception(), UnavailableError)


async def test_a_path_may_lead_over_steps_of_this_node_and_of_others(hub: Hub) -> None:
    one, two, three = snapshot(1), snapshot(2, syncs=2), snapshot(3, syncs=3)
    watch = hub.attach(USER, Client())
    publish(hub, two)
    publish(hub, three, two)
    assert [edge.revision for edge in await watch.path_from((9, 2), three, None) or []] == [3]
    for held in ((9, 1), (8, 2), None):
        assert await watch.path_from(held, three, None) is None
    hub_of_other = Hub(mark_dirty=lambda _: None, stale_seconds=2.0)
    other = hub_of_other.attach(USER, Client())
    publish(hub_of_other, one)
    publish(hub_of_other, two, one)
    stored = Stored(two, tuple(await other.path_from((9, 1), two, None) or ()))
    path = await watch.path_from((9, 1), three, Memory({USER: stored}))
    assert [(edge.base, edge.revision) for edge in path or []] == [(1, 2), (2, 3)]


async def test_who_has_seen_more_elsewhere_waits_for_a_read_instead_of_going_back(
    hub: Hub, marks: Marks
) -> None:
    watch = hub.attach(USER, Client())
    publish(hub, snapshot(5))
    hub.confirm(AS_OF, time.monotonic(), [])
    marks.clear()
    came = asyncio.create_task(watch.snapshot_for((9, 8), None, time.monotonic()))
    while not marks:
        await asyncio.sleep(0)
    # A read that was under way when the client came may have missed what the client has seen.
    publish(hub, snapshot(6), ago_seconds=1.0)
    await asyncio.sleep(0.01)
    assert not came.done()
    publish(hub, snapshot(8))
    assert (await came).revision == 8


async def test_who_claims_more_than_there_is_gets_what_there_is(hub: Hub) -> None:
    watch = hub.attach(USER, Client())
    publish(hub, snapshot(5))
    hub.confirm(AS_OF, time.monotonic(), [])
    came = asyncio.create_task(watch.snapshot_for((9, 2**52), None, time.monotonic()))
    await asyncio.sleep(0.01)
    publish(hub, snapshot(5))
    assert (await came).revision == 5


async def test_a_blind_node_does_not_take_anybody_back(hub: Hub) -> None:
    watch = hub.attach(USER, Client())
    publish(hub, snapshot(5), ago_seconds=5.0)
    assert (await watch.snapshot_for((9, 5), None, time.monotonic())).revision == 5
    with pytest.raises(UnavailableError):
        await watch.snapshot_for((9, 6), None, time.monotonic())


# Snapshots that are computed from deltas.


def test_a_delta_wakes_the_clients_and_its_state_is_as_old_as_the_last_look(hub: Hub) -> None:
    client = Client()
    watch = hub.attach(USER, client)
    publish(hub, snapshot(5), ago_seconds=1.5)
    assert hub.follow(snapshot(6))
    assert client.woken == [5, 6]
    assert watch.revision == 6
    assert watch.freshness(time.monotonic()).age_ms >= 1500
    assert not hub.is_behind(USER)


def test_nothing_follows_on_what_was_not_read_here(hub: Hub) -> None:
    assert not hub.follow(snapshot(6))
    watch = hub.attach(USER, Client())
    assert not hub.follow(snapshot(6))
    watch.snapshot = snapshot(5)  # remembered from elsewhere
    assert not hub.follow(snapshot(6))
    publish(hub, snapshot(5))
    assert hub.follow(snapshot(6))
    assert not hub.follow(snapshot(6))
    assert not hub.follow(snapshot(7, user_id=OTHER_USER))


def test_an_account_is_behind_until_what_is_known_of_was_shown(hub: Hub) -> None:
    hub.attach(USER, Client())
    publish(hub, snapshot(5))
    assert hub.is_news(USER, 7)
    assert hub.follow(snapshot(6))
    assert hub.is_behind(USER)
    assert hub.follow(snapshot(7))
    assert not hub.is_behind(USER)


def test_a_read_that_began_before_a_change_was_known_of_leaves_the_account_behind(hub: Hub) -> None:
    hub.attach(USER, Client())
    publish(hub, snapshot(5))
    hub.is_news(USER, 7)
    publish(hub, snapshot(6), snapshot(5), ago_seconds=1.0)
    assert hub.is_behind(USER)
    # A hint may be forged: a read that began later knows better.
    publish(hub, snapshot(6))
    assert not hub.is_behind(USER)


def test_what_was_shown_since_a_sweep_began_is_no_change_that_it_found(hub: Hub) -> None:
    hub.attach(USER, Client())
    publish(hub, snapshot(5))
    hub.follow(snapshot(6))
    for found in (6, 4):
        hub.confirm(AS_OF, time.monotonic(), changed=[(USER, 5, found)])
        assert not hub.is_behind(USER)
    hub.confirm(AS_OF, time.monotonic(), changed=[(USER, 5, 7)])
    assert hub.is_behind(USER)


def test_what_is_gone_from_the_database_is_not_made_good_by_what_follows(hub: Hub) -> None:
    hub.attach(USER, Client())
    publish(hub, snapshot(5))
    hub.confirm(AS_OF, time.monotonic(), changed=[(USER, 5, 4)])
    hub.follow(snapshot(6))
    assert hub.is_behind(USER)
    publish(hub, snapshot(6))
    assert not hub.is_behind(USER)


def test_a_sweep_compares_what_was_delivered_as_it_is_now(hub: Hub) -> None:
    hub.attach(USER, Client())
    hub.attach(OTHER_USER, Client())
    assert hub.delivered() == ([], [])
    publish(hub, snapshot(5))
    assert hub.delivered() == ([USER], [5])
    hub.follow(snapshot(6))
    assert hub.delivered() == ([USER], [6])


def test_a_blind_node_does_not_call_the_state_of_a_delta_fresh(hub: Hub) -> None:
    client, now = Client(), time.monotonic()
    hub.attach(USER, client)
    hub.publish([Step(snapshot(5), None)], as_of=AS_OF, read_at=now - 60)
    hub.tick(now)
    assert hub.follow(snapshot(6))
    assert (client.woken, client.stale) == ([5, 6], [True])


def test_an_idle_account_is_packed_and_says_the_same(hub: Hub) -> None:
    watch = hub.attach(USER, Client())
    publish(hub, snapshot(4, tickets=(7, 8, 9)))
    publish(hub, snapshot(5, tickets=(7, 8, 9)))
    shown = watch.snapshot
    assert shown is not None
    state, whole = shown.state, shown.encoded(CHANNELS)
    now = time.monotonic()
    hub.tick(now + IDLE_SECONDS - 2)
    assert shown.state is state
    hub.tick(now + IDLE_SECONDS + 2)
    assert shown.state is not state
    assert shown.state == state
    assert shown.encoded(CHANNELS) == whole
    # The account goes on like any other.
    assert hub.follow(snapshot(6, syncs=2, tickets=(7, 8, 9)))
    assert watch.snapshot is not None
    assert watch.snapshot.state["status"]["total_syncs"] == 2


def test_an_account_that_is_asked_for_is_not_idle(hub: Hub) -> None:
    watch = hub.reading(USER)
    publish(hub, snapshot(4))
    publish(hub, snapshot(5))
    now = time.monotonic()
    state = watch.snapshot and watch.snapshot.state
    watch.touch(now + IDLE_SECONDS)
    hub.tick(now + IDLE_SECONDS + 2)
    assert watch.snapshot is not None
    assert watch.snapshot.state is state


def test_an_account_is_packed_until_it_changes(hub: Hub) -> None:
    watch = hub.reading(USER)
    first = snapshot(5)
    state = first.state
    publish(hub, first)
    assert watch.snapshot is first
    assert first.state is not state
    assert first.state == state
    hub.follow(snapshot(6))
    assert watch.snapshot.state is watch.snapshot.state

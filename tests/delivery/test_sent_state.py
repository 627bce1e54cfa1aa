"""A client that applies every frame always holds the newest state; these tests play the client."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardwire.patch import apply, diff
from guardwire.state import CHANNELS
from realtime.delivery.sent_state import Frame, SentState, channels_in_order
from realtime.history import Edge, find_path
from realtime.owners import WrongOwner
from realtime.snapshot import Snapshot
from tests.snapshots import FRESH, OTHER_USER, USER, snapshot


class Mirror:
    """A client that follows PROTOCOL.md to the letter and knows nothing else."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.revision = -1

    def take(self, sent: Frame | None) -> None:
        """Apply one frame; fails when its base is not what is held."""
        if sent is None:
            return
        frame = json.loads(sent.payload)
        assert frame["type"] == sent.type
        if frame["type"] == "snapshot":
            self.state = frame["state"]
        else:
            assert frame["base"] == self.revision, f"a gap: {frame}, held {self.revision}"
            self.state = apply(self.state, frame.get("patch", {}))
        assert frame["revision"] >= self.revision
        self.revision = frame["revision"]
        assert self.revision == sent.revision


def read(sent: Frame | None) -> dict[str, Any]:
    assert sent is not None
    frame: dict[str, Any] = json.loads(sent.payload)
    return frame


def begun(first: Snapshot, channels: tuple[str, ...] = CHANNELS) -> tuple[SentState, Mirror]:
    sent, mirror = SentState(USER, channels, first), Mirror()
    mirror.take(sent.whole(first, FRESH))
    return sent, mirror


def test_an_update_is_the_difference_of_what_the_client_has_and_the_newest() -> None:
    sent, _ = begun(snapshot(5, syncs=1))
    frame = read(sent.update(snapshot(8, syncs=4), FRESH))
    assert (frame["type"], frame["base"], frame["revision"]) == ("update", 5, 8)
    assert frame["patch"] == {"status": {"total_syncs": 4}}
    assert frame["age_ms"] == 3


def test_nothing_is_sent_when_nothing_newer_is_there() -> None:
    first = snapshot(5)
    sent, _ = begun(first)
    assert sent.update(first, FRESH) is None
    assert sent.update(snapshot(4), FRESH) is None


def test_a_client_of_a_quiet_channel_gets_no_update_and_keeps_pace_by_heartbeat() -> None:
    sent, mirror = begun(snapshot(5, syncs=1), ("guards",))
    assert sent.update(snapshot(6, syncs=2), FRESH) is None
    frame = sent.heartbeat(FRESH, stale=False)
    heartbeat = read(frame)
    assert (heartbeat["base"], heartbeat["revision"], heartbeat["stale"]) == (5, 6, False)
    mirror.take(frame)
    mirror.take(sent.update(snapshot(7, equity=1.0), FRESH))
    assert mirror.state == {"guards": snapshot(7, equity=1.0).state["guards"]}


def test_without_a_heartbeat_between_the_base_is_still_what_the_client_holds() -> None:
    sent, mirror = begun(snapshot(5, syncs=1), ("guards",))
    assert sent.update(snapshot(6, syncs=2), FRESH) is None
    mirror.take(sent.update(snapshot(7, equity=1.0), FRESH))
    assert mirror.revision == 7


def test_a_new_epoch_is_a_snapshot_even_at_a_lower_revision() -> None:
    sent, _ = begun(snapshot(5))
    frame = read(sent.update(snapshot(3, epoch=10), FRESH))
    assert (frame["type"], frame["epoch"], frame["revision"]) == ("snapshot", 10, 3)


def test_an_added_channel_arrives_whole_and_a_dropped_one_leaves() -> None:
    sent, mirror = begun(snapshot(5, tickets=(1, 2)), ("guards",))
    for payload in sent.subscribe(["positions", "guards"], FRESH):
        mirror.take(payload)
    assert set(mirror.state) == {"positions", "guards"}
    for payload in sent.unsubscribe(["guards", "status"], FRESH):
        mirror.take(payload)
    assert mirror.state == {"positions": snapshot(5, tickets=(1, 2)).state["positions"]}
    assert sent.subscribe(["positions"], FRESH) == []


def test_anothers_snapshot_is_never_accepted() -> None:
    sent, _ = begun(snapshot(5))
    with pytest.raises(WrongOwner):
        sent.update(snapshot(6, user_id=OTHER_USER), FRESH)
    with pytest.raises(WrongOwner):
        SentState(USER, CHANNELS, snapshot(6, user_id=OTHER_USER))


def _edge(old: Snapshot, new: Snapshot) -> Edge:
    return Edge(new.user_id, old.revision, new.revision, json.dumps(diff(old.state, new.state)).encode())


@pytest.mark.parametrize("held", [CHANNELS, ("guards",), ("status", "positions"), ()])
@pytest.mark.parametrize("wanted", [CHANNELS, ("guards",), ("positions", "guards")])
def test_a_resumed_client_ends_with_exactly_the_channels_it_wants(
    held: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    steps = [snapshot(5), snapshot(7, syncs=2), snapshot(9, syncs=2, tickets=(4,)), snapshot(12, equity=5.0)]
    mirror = Mirror()
    mirror.state, mirror.revision = steps[0].select(held), 5
    path = [_edge(old, new) for old, new in itertools.pairwise(steps)]
    sent = SentState(USER, wanted, steps[-1])
    for payload in sent.resume(5, held, path, steps[-1], FRESH):
        mirror.take(payload)
    mirror.take(sent.heartbeat(FRESH, stale=False))
    assert mirror.state == steps[-1].select(wanted)
    assert mirror.revision == 12


def test_a_client_that_resumes_up_to_date_gets_a_heartbeat_alone() -> None:
    newest = snapshot(5)
    (frame,) = SentState(USER, CHANNELS, newest).resume(5, CHANNELS, [], newest, FRESH)
    heartbeat = read(frame)
    assert (heartbeat["type"], heartbeat["base"], heartbeat["revision"]) == ("heartbeat", 5, 5)


_parts = st.fixed_dictionaries(
    {
        "syncs": st.integers(0, 3),
        "tickets": st.lists(st.integers(1, 5), unique=True).map(tuple),
        "equity": st.sampled_from([1.0, 2.0]),
    }
)
_choices = st.lists(st.sampled_from(CHANNELS), max_size=3).map(channels_in_order)
_moves = st.one_of(
    st.tuples(st.just("change"), _parts),
    st.tuples(st.sampled_from(["update", "heartbeat", "resync", "lose"]), st.none()),
    st.tuples(st.sampled_from(["subscribe", "unsubscribe", "resume"]), _choices),
)


class Nodes:
    """Two nodes that went from revision to revision in different steps, and remember them in one place."""

    def __init__(self, first: Snapshot) -> None:
        self.taken = [first]
        self.edges: list[Edge] = []

    @property
    def newest(self) -> Snapshot:
        return self.taken[-1]

    def change(self, new: Snapshot) -> None:
        self.edges += [_edge(old, new) for old in self.taken[-2:]]
        self.taken.append(new)

    def resume(self, mirror: Mirror, wanted: tuple[str, ...]) -> SentState:
        """Another sent, on whichever node, for a client that holds what is in ``mirror``."""
        sent = SentState(USER, wanted, self.newest)
        path = find_path(self.edges, mirror.revision, self.newest.revision)
        assert path is not None
        for payload in sent.resume(mirror.revision, tuple(mirror.state), path, self.newest, FRESH):
            mirror.take(payload)
        return sent


@given(channels=_choices, moves=st.lists(_moves, max_size=30))
def test_whatever_happens_in_between_the_client_equals_the_newest_state(
    channels: tuple[str, ...], moves: list[tuple[str, Any]]
) -> None:
    nodes = Nodes(snapshot(1))
    sent, mirror = begun(nodes.newest, channels)
    for number, (move, what) in enumerate(moves, start=2):
        match move:
            case "change":
                nodes.change(snapshot(number, **what))
            case "update":
                mirror.take(sent.update(nodes.newest, FRESH))
            case "heartbeat":
                mirror.take(sent.heartbeat(FRESH, stale=False))
            case "resync":
                mirror.take(sent.whole(nodes.newest, FRESH))
            case "lose":
                sent.update(nodes.newest, FRESH)
                sent = nodes.resume(mirror, sent.channels)
            case "resume":
                sent = nodes.resume(mirror, what)
            case "subscribe" | "unsubscribe":
                for payload in getattr(sent, move)(what, FRESH):
                    mirror.take(payload)
    mirror.take(sent.update(nodes.newest, FRESH))
    assert mirror.state == nodes.newest.select(sent.channels)

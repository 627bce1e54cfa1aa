"""Properties of merge patches: what the server says and what a client makes of it is the same state."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardwire import patch
from guardwire.patch import State

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "vectors" / "merge_patch.json").read_text()
)
OBJECT_CASES = [case for case in VECTORS["cases"] if not case.get("any_document")]

#: Few keys, so that states meet in them; dots, quotes, dunders and the empty key are keys like any other.
KEYS = st.sampled_from(["a", "b", "c", "", ".", '"', "__proto__", "é", "EURUSD.m:price_gap"])
#: As in a state: no null, no list, and a key holds booleans or numbers but not now one and now the other.
LEAVES = st.integers(2, 5) | st.sampled_from([0.5, 2.0, -0.0, 1e300]) | st.booleans() | st.text(max_size=2)
STATES = st.recursive(
    st.dictionaries(KEYS, LEAVES, max_size=4),
    lambda inner: st.dictionaries(KEYS, LEAVES | inner, max_size=4),
    max_leaves=12,
)

#: Records as in `positions.open`: some fields always, others sometimes, so that a record which left and came
#: back differs.
RECORDS = st.fixed_dictionaries(
    {"volume": st.integers(1, 3)},
    optional={"stop_loss": st.integers(1, 2), "take_profit": st.integers(1, 2), "symbol": st.just("EURUSD")},
)
BOOKS = st.fixed_dictionaries({"open": st.dictionaries(st.sampled_from("123"), RECORDS)})


@given(STATES, STATES)
def test_a_patch_turns_the_old_state_into_the_new_one_and_changes_neither(old: State, new: State) -> None:
    old_before, new_before = copy.deepcopy(old), copy.deepcopy(new)
    change = patch.diff(old, new)
    assert patch.apply(old, change) == new
    assert (old, new) == (old_before, new_before)


@given(STATES, STATES)
def test_a_patch_survives_the_wire(old: State, new: State) -> None:
    change = msgspec.json.decode(msgspec.json.encode(patch.diff(old, new)))
    assert patch.apply(old, change) == new


@given(STATES, STATES)
def test_a_patch_is_empty_exactly_when_nothing_changed(old: State, new: State) -> None:
    assert (patch.diff(old, new) == {}) == (old == new)


@given(STATES, STATES)
def test_applying_a_patch_twice_is_applying_it_once(old: State, new: State) -> None:
    change = patch.diff(old, new)
    once = patch.apply(old, change)
    assert patch.apply(once, change) == once


@given(st.lists(STATES, min_size=1, max_size=6))
def test_a_path_of_patches_leads_where_the_difference_of_its_ends_leads(states: list[State]) -> None:
    edges = [patch.diff(old, new) for old, new in pairwise(states)]
    replayed = states[0]
    for edge in edges:
        replayed = patch.apply(replayed, edge)
    assert replayed == patch.apply(states[0], patch.diff(states[0], states[-1])) == states[-1]


@given(st.lists(BOOKS, min_size=2, max_size=5))
def test_a_record_that_left_and_came_back_has_only_its_new_fields(books: list[State]) -> None:
    held = books[0]
    for book in books[1:]:
        held = patch.apply(held, patch.diff(held, book))
        assert held == book


@given(STATES, STATES)
def test_what_did_not_change_is_shared_and_not_copied(old: State, new: State) -> None:
    after = patch.apply(old, patch.diff(old, new))
    for key, value in old.items():
        if isinstance(value, dict) and new.get(key) == value:
            assert after[key] is value


def test_patches_do_not_compose_so_they_are_replayed_one_by_one() -> None:
    """The reason for the rule: folding "delete" and "set again with fewer fields" into one patch resurrects a
    field.
    """
    states: list[State] = [{"7": {"volume": 1, "stop_loss": 2}}, {}, {"7": {"volume": 1}}]
    first, second = patch.diff(states[0], states[1]), patch.diff(states[1], states[2])
    folded = patch.apply(first, second)
    assert patch.apply(states[0], folded) != states[2]
    assert patch.apply(patch.apply(states[0], first), second) == states[2]


@pytest.mark.parametrize("case", OBJECT_CASES, ids=lambda case: case["name"])
def test_merging_follows_the_shared_vectors(case: dict[str, Any]) -> None:
    assert patch.apply(case["target"], case["patch"]) == case["result"]


@pytest.mark.parametrize("replay", VECTORS["replays"], ids=lambda replay: replay["name"])
def test_replaying_follows_the_shared_vectors(replay: dict[str, Any]) -> None:
    states = replay["states"]
    for held, change, after in zip(states, replay["patches"], states[1:], strict=False):
        assert patch.apply(held, change) == after
        assert patch.apply(held, patch.diff(held, after)) == after

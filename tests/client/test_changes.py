"""Properties of the changes between two states."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from guardwire.account import Change, differences

LEAVES = st.integers(2, 3) | st.text("ab", max_size=1) | st.booleans()
KEYS = st.sampled_from("abc")
RECORDS = st.dictionaries(KEYS, LEAVES, max_size=3)
CHANNELS = st.dictionaries(KEYS, LEAVES | RECORDS | st.dictionaries(KEYS, RECORDS, max_size=2), max_size=3)
STATES = st.dictionaries(st.sampled_from(["status", "guards"]), CHANNELS, max_size=2)


def applied(state: Any, changes: list[Change]) -> dict[tuple[str, ...], Any]:
    """``state`` after ``changes``, without the empty objects that changes do not speak of."""
    leaves = {path: value for path, value in flat((), state) if value != {}}
    for change in changes:
        for path in [path for path in leaves if path[: len(change.path)] == change.path]:
            del leaves[path]
        leaves.update(
            {path: value for path, value in flat(change.path, change.new) if value not in (None, {})}
        )
    return leaves


def flat(path: tuple[str, ...], value: Any) -> list[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in flat((*path, key), inner)]
    return [(path, value)]


@given(STATES, STATES)
def test_applying_the_changes_to_the_old_state_gives_the_new_one(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    changes = differences(old, new, under=(), revision=1)
    assert applied(old, changes) == applied(new, [])
    assert all(change.old != change.new for change in changes)
    assert len({change.path for change in changes}) == len(changes)


@given(STATES, STATES, st.sampled_from([("guards",), ("guards", "a"), ("guards", "a", "b")]))
def test_a_path_has_only_the_changes_at_or_below_it(
    old: dict[str, Any], new: dict[str, Any], under: tuple[str, ...]
) -> None:
    whole = differences(old, new, under=(), revision=1)
    part = differences(old, new, under=under, revision=1)
    assert part == [change for change in whole if change.path[: len(under)] == under]

"""Paths through the steps of several nodes."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from realtime.history import Edge, find_path
from tests.snapshots import USER

_edges = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12)).map(
        lambda ends: Edge(USER, min(ends), max(ends), b"{}")
    )
)


def _reaches(edges: list[Edge], start: int, goal: int) -> bool:
    reached = {start}
    for _ in edges:
        reached |= {edge.revision for edge in edges if edge.base in reached and edge.revision <= goal}
    return goal in reached


@given(edges=_edges, start=st.integers(0, 12), goal=st.integers(0, 12))
def test_a_path_is_found_exactly_when_there_is_one_and_it_is_unbroken(
    edges: list[Edge], start: int, goal: int
) -> None:
    path = find_path(edges, start, goal)
    assert (path is not None) == _reaches(edges, start, goal)
    if path:
        assert path[0].base == start
        assert path[-1].revision == goal
        assert all(before.revision == after.base for before, after in itertools.pairwise(path))


def test_the_shortest_of_several_paths_is_taken() -> None:
    edges = [Edge(USER, 1, 2, b"a"), Edge(USER, 2, 3, b"b"), Edge(USER, 1, 3, b"c")]
    assert find_path(edges, 1, 3) == [Edge(USER, 1, 3, b"c")]

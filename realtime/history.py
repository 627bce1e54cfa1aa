"""The history of an account: steps from one snapshot to the next, and paths along them to the newest revision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol
from uuid import UUID

from realtime.snapshot import Snapshot


class Edge(NamedTuple):
    """A step that some node took: the merge patch, as JSON, of the account ``owner`` from ``base`` to
    ``revision``.
    """

    owner: UUID
    base: int
    revision: int
    patch: bytes


class Step(NamedTuple):
    """A new snapshot and the one that it was computed from; ``base`` is None for the first of an account."""

    snapshot: Snapshot
    base: Snapshot | None


class Stored(NamedTuple):
    """The snapshot and the edges of one account in Redis; ``edges`` are in the order in which they were stored."""

    snapshot: Snapshot
    edges: tuple[Edge, ...]


class Store(Protocol):
    """Keeps snapshots and edges beyond this process; ``available`` is False while its last call had no answer."""

    available: bool

    async def load(self, user_ids: list[UUID]) -> dict[UUID, Stored]: ...


def find_path(edges: Iterable[Edge], start: int, goal: int) -> list[Edge] | None:
    """The fewest steps from ``start`` to ``goal``; None when the edges do not lead there.

    Two nodes may have gone from one revision to another in different steps, so this is a walk through a
    graph. Every edge leads to a higher revision, so it ends.
    """
    if start == goal:
        return []
    leaving: dict[int, list[Edge]] = {}
    for edge in edges:
        if edge.base < edge.revision <= goal:
            leaving.setdefault(edge.base, []).append(edge)
    came_by: dict[int, Edge] = {}
    frontier = [start]
    while frontier and goal not in came_by:
        reached = [
            edge
            for revision in frontier
            for edge in leaving.get(revision, ())
            if edge.revision not in came_by
        ]
        for edge in reached:
            came_by.setdefault(edge.revision, edge)
        frontier = list(dict.fromkeys(edge.revision for edge in reached))
    if goal not in came_by:
        return None
    path = [came_by[goal]]
    while path[-1].base != start:
        path.append(came_by[path[-1].base])
    return path[::-1]

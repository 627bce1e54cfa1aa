"""Merge patches (RFC 7396) between two states: ``apply(old, diff(old, new)) == new``.

A merge patch is exact here, because states hold no null and no list, and a field never changes between a boolean and a
number. Two patches cannot be merged into one: the first may delete a record that the second sets again with fewer
fields. Therefore patches are applied one by one, or made from two states.
"""

from __future__ import annotations

from typing import Any

State = dict[str, Any]


def diff(old: State, new: State) -> State:
    """The merge patch that turns ``old`` into ``new``; empty when they are equal. Neither is changed."""
    patch: State = {}
    for key, value in new.items():
        before = old.get(key)
        # `==` compares whole records in C, and most records have not changed.
        if before == value:
            continue
        both_records = type(value) is dict and type(before) is dict
        patch[key] = diff(before, value) if both_records else value  # type: ignore[arg-type]
    if not old.keys() <= new.keys():
        for key in old.keys() - new.keys():
            patch[key] = None
    return patch


def apply(state: State, patch: State) -> State:
    """The state after ``patch``. ``state`` itself stays unchanged, and unchanged parts are shared with it."""
    result = dict(state)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif type(value) is dict:
            before = result.get(key)
            result[key] = apply(before if type(before) is dict else {}, value)
        else:
            result[key] = value
    return result

"""Merge patches (RFC 7396) between two states: ``apply(old, diff(old, new)) == new``.

States hold no null, a field never changes between a boolean and a number, and lists are not used, which is
what makes a merge patch exact. Patches do not compose (delete, then set again with fewer fields), so they are
replayed one by one or made from two states, never folded.
"""

from __future__ import annotations

from typing import Any

State = dict[str, Any]


def diff(old: State, new: State) -> State:
    """The merge patch that turns ``old`` into ``new``; empty when they are equal. Neither is changed."""
    patch: State = {}
    for key, value in new.items():
        before = old.get(key)
        # `==` compares whole records in C, and most of a state has not changed.
        if before == value:
            continue
        both_records = type(value) is dict and type(before) is dict
        patch[key] = diff(before, value) if both_records else value  # type: ignore[arg-type]
    if not old.keys() <= new.keys():
        for key in old.keys() - new.keys():
            patch[key] = None
    return patch


def apply(state: State, patch: State) -> State:
    """The state after ``patch``; what did not change is shared with ``state``, which is left as it was."""
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

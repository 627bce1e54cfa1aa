"""Compares a state that a server showed with the oracle's, and names every difference by its path.

Three things do not follow from the rows alone and are compared with care. A `description` is any text for people. For a
row without a usable time the database's clock counts, which the oracle knows to within a few seconds. Breaches by
changed limits and changed rows are named after the revision of that change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from queries.positions import fold

#: The id of an event that changed limits caused, or a row that was changed in place.
_CAUSED: Final = re.compile(r"((?:peak-)?(?:limits|[0-9a-f-]{36}))[-.]([0-9.]+)")
_CLOCK: Final = timedelta(seconds=5)


def disagreements(expected: dict[str, Any], shown: dict[str, Any], *, since: datetime) -> list[str]:
    """One line for each difference; ``since`` is the time when the history began to be written.

    The oracle has no channel `alerts`; where it is shown, it must have an alert for each breach.
    """
    reduced = {name: channel for name, channel in shown.items() if name != "alerts"}
    found = list(_compare("", _comparable(expected), _comparable(reduced), since))
    return [*found, *_unlike_breaches(shown["guards"], shown["alerts"])] if "alerts" in shown else found


def _unlike_breaches(guards: dict[str, Any], alerts: dict[str, Any]) -> Iterator[str]:
    """Breaches that have not cleared are the alerts that are not resolved, each once, while nobody acknowledges any."""
    unresolved = [_subject(alert) for alert in alerts["open"].values() if "resolved_at" not in alert]
    standing = [_subject(breach) for breach in guards["breaches"].values() if "cleared_at" not in breach]
    for subject in sorted({*standing, *unresolved}):
        breaches, raised = standing.count(subject), unresolved.count(subject)
        if breaches != raised:
            yield f"/alerts/open: {subject} has {breaches} breaches and {raised} alerts"
    if alerts["unacknowledged"] != len(alerts["open"]):
        yield f"/alerts/unacknowledged: should be {len(alerts['open'])} and is {alerts['unacknowledged']}"


def _subject(each: dict[str, Any]) -> tuple[str, str, str]:
    return each["kind"], fold(each.get("symbol", "")), each.get("condition_type", "")


def is_same_json(first: Any, second: Any) -> bool:
    """Whether two parsed documents are the same JSON value, apart from descriptions."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(is_same_json(first[key], second[key]) for key in first)
    return _is_same(first, second)


def _compare(path: str, expected: Any, shown: Any, since: datetime) -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(shown, dict):
        for key in sorted(expected.keys() | shown.keys()):
            where = f"{path}/{key}"
            if key not in shown:
                yield f"{where}: {expected[key]!r} is missing"
            elif key not in expected:
                yield f"{where}: {shown[key]!r} should not be there"
            else:
                yield from _compare(where, expected[key], shown[key], since)
    elif not _is_same(expected, shown) and not _is_the_clock(expected, shown, since):
        yield f"{path}: should be {expected!r} and is {shown!r}"


def _is_same(expected: Any, shown: Any) -> bool:
    # Python treats True as 1, JSON does not.
    return bool(expected == shown) and isinstance(expected, bool) is isinstance(shown, bool)


def _is_the_clock(expected: Any, shown: Any, since: datetime) -> bool:
    """Whether both are times after the test began, and close to each other: no row has such a time."""
    if not isinstance(expected, str) or not isinstance(shown, str):
        return False
    try:
        first, second = datetime.fromisoformat(expected), datetime.fromisoformat(shown)
    except ValueError:
        return False
    return first >= since and timedelta(0) <= second - first < _CLOCK


def _comparable(state: dict[str, Any]) -> dict[str, Any]:
    """A copy without descriptions, and with the breaches of changed limits numbered from 1."""
    return {key: _walk(value) for key, value in state.items()}


def _order(key: str) -> tuple[int, ...]:
    found = _CAUSED.fullmatch(key)
    return tuple(map(int, found[2].split("."))) if found else ()


def _walk(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    caused = sorted((key for key in value if _CAUSED.fullmatch(key)), key=_order)
    names = {key: f"{key[:6]} {number}" for number, key in enumerate(caused, 1)}
    return {names.get(key, key): _walk(each) for key, each in value.items() if key != "description"}

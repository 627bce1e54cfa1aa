"""Findings of a comparison: differences for certain, and doubts that the record alone cannot settle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: Stands for a value that is not there.
ABSENT: Final = "nothing"


@dataclass(frozen=True)
class Difference:
    """One path of an account's state where the record and the live queries do not agree."""

    path: str
    expected: Any
    shown: Any

    def __str__(self) -> str:
        return f"{self.path}: should be {_described(self.expected)} and is {_described(self.shown)}"


@dataclass
class Findings:
    """All findings of one comparison."""

    differences: list[Difference] = field(default_factory=list)
    #: Differences that rows which are no longer on record, or a forgotten order, may explain.
    doubts: list[Difference] = field(default_factory=list)

    def add(self, path: str, expected: Any, shown: Any, *, doubtful: bool) -> None:
        """Note one path where they differ."""
        (self.doubts if doubtful else self.differences).append(Difference(path, expected, shown))

    def compare(
        self,
        path: str,
        expected: Mapping[str, Any],
        shown: Mapping[str, Any],
        names: Iterable[str],
        *,
        doubtful: bool = False,
    ) -> None:
        """Note every one of ``names`` that differs; a missing value is as good as another."""
        for name in names:
            should, is_shown = expected.get(name, ABSENT), shown.get(name, ABSENT)
            if not same(should, is_shown):
                self.add(f"{path}/{name}", should, is_shown, doubtful=doubtful)


def same(expected: Any, shown: Any) -> bool:
    """Whether two values of a state are one in JSON; Python takes True for 1, JSON does not."""
    return bool(expected == shown) and isinstance(expected, bool) is isinstance(shown, bool)


def _described(value: Any) -> str:
    if value is ABSENT:
        return ABSENT
    return "there" if isinstance(value, dict) else repr(value)

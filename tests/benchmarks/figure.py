"""One figure: the samples of ours and of its reference, and the promised ratio."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Samples of ``ours`` and ``reference`` in ``unit``, taken alternately.

    ``target`` bounds the ratio from above, or from below with ``more_is_better``. ``limit`` bounds ours in the same
    way; without ``reference`` it is the only bound.
    """

    name: str
    unit: str
    ours: list[float]
    reference: list[float] = field(default_factory=list)
    target: float | None = None
    limit: float | None = None
    more_is_better: bool = False
    note: str = ""
    #: The reason that a profile shows for a missed target; printed only when the target is missed.
    in_the_way: str = ""

    @property
    def value(self) -> float:
        """The median of ours."""
        return median(self.ours)

    @property
    def ratio(self) -> float | None:
        """The ratio of the medians; None without a reference."""
        return self.value / median(self.reference) if self.reference and median(self.reference) else None

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest ratio of neighbouring samples; without a reference those of ours itself."""
        pairs = [a / b for a, b in zip(self.ours, self.reference, strict=False) if b] or self.ours
        return min(pairs), max(pairs)

    @property
    def is_met(self) -> bool | None:
        """Whether every bound is kept; None when there is no bound."""
        kept = []
        if self.target is not None and self.ratio is not None:
            kept.append(self.ratio >= self.target if self.more_is_better else self.ratio <= self.target)
        if self.limit is not None:
            kept.append(self.value >= self.limit if self.more_is_better else self.value <= self.limit)
        return all(kept) if kept else None

    def as_json(self) -> dict[str, Any]:
        """The figure's entry in `bench.json`."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": self.value,
            "reference": median(self.reference) if self.reference else None,
            "ratio": self.ratio,
            "target": self.target,
            "limit": self.limit,
            "met": self.is_met,
            "spread": list(self.spread),
            "samples": {"ours": self.ours, "reference": self.reference},
            "note": self.note,
            "in_the_way": self.in_the_way if self.is_met is False else "",
        }

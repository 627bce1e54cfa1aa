"""The results of one fault: proofs that it took effect, figures with their bounds, and broken promises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Figure(NamedTuple):
    """A measured figure, and its bound."""

    what: str
    value: float
    bound: float
    unit: str

    @property
    def holds(self) -> bool:
        # `value > bound` would accept NaN, which stands for a figure that could not be measured.
        return self.value <= self.bound

    def __str__(self) -> str:
        return f"{self.what} {self.value:.4g} ≤ {self.bound:g} {self.unit}".rstrip()


@dataclass
class Findings:
    """The row of one fault."""

    fault: str
    proofs: list[tuple[str, bool]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the fault took effect and every promise held."""
        bit = bool(self.proofs) and all(true for _, true in self.proofs)
        return bit and bool(self.figures) and all(each.holds for each in self.figures) and not self.broken

    @property
    def verdict(self) -> str:
        if not self.proofs or not all(true for _, true in self.proofs):
            return "NOT INJECTED"
        return "held" if self.holds else "BROKEN"

    @property
    def proof(self) -> str:
        """The proofs; one that did not hold is marked."""
        return "; ".join(text if true else f"NOT SO: {text}" for text, true in self.proofs) or "no proof"

    @property
    def measured(self) -> str:
        return "; ".join(f"{figure}{'' if figure.holds else ' (!)'}" for figure in self.figures)

    def lines(self) -> list[str]:
        """The row for a terminal."""
        return [
            f"{self.verdict:<12} {self.fault} ({self.seconds:.1f} s)",
            f"             proof:   {self.proof}",
            f"             figures: {self.measured}",
            *(f"             broken:  {line}" for line in self.broken[:12]),
        ]

    def cells(self) -> str:
        """The row for a table in Markdown."""
        texts = (self.fault, self.proof, self.measured, self.verdict)
        return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"

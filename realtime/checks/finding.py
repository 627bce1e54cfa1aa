"""Findings of the checks, and the report with all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

Level = Literal["problem", "note"]

_WIDTH: Final = 12


class Finding(NamedTuple):
    """One fact about a database that its operator should know.

    A ``problem`` keeps values from being shown, or makes them wrong. A ``note`` may be intended. ``about`` is the
    table, column, symbol or other subject of the sentence. ``remedy`` is a statement or a command; "" when no single
    one helps.
    """

    check: str
    level: Level
    about: str
    sentence: str
    remedy: str = ""


def problem(check: str, about: str, sentence: str, remedy: str = "") -> Finding:
    """A finding that has to be corrected."""
    return Finding(check, "problem", about, sentence, remedy)


def note(check: str, about: str, sentence: str, remedy: str = "") -> Finding:
    """A finding that may be intended."""
    return Finding(check, "note", about, sentence, remedy)


@dataclass
class Report:
    """All findings; ``read`` describes the database and the rows that were read."""

    read: dict[str, object] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, found: Iterable[Finding]) -> None:
        """Add findings, in the order of printing."""
        self.findings.extend(found)

    @property
    def is_clean(self) -> bool:
        """Whether there is no problem."""
        return not self.of("problem")

    def of(self, level: Level) -> Sequence[Finding]:
        """The findings of one level."""
        return [finding for finding in self.findings if finding.level == level]

    def as_json(self) -> str:
        """One JSON object: ``clean``, ``read`` and ``findings`` with the fields of `Finding`."""
        findings = [finding._asdict() for finding in self.findings]
        return json.dumps({"clean": self.is_clean, "read": self.read, "findings": findings}, indent=2)

    def as_text(self) -> str:
        """Lines for people: problems first, each with its remedy below."""
        lines = [f"read: {', '.join(f'{name} {value}' for name, value in self.read.items())}"]
        levels: tuple[tuple[Level, str], ...] = (("problem", "problems"), ("note", "notes"))
        for level, title in levels:
            found = self.of(level)
            lines += ["", f"{title}: {len(found) or 'none'}"]
            for finding in found:
                lines.append(f"  {finding.check:<{_WIDTH}} {_printable(finding.sentence)}")
                if finding.remedy:
                    lines.append(f"  {'':<{_WIDTH}}   {_printable(finding.remedy)}")
        return "\n".join(lines)


def literal(text: str) -> str:
    """An SQL literal of a text that the database holds, for a statement that people copy."""
    return "'" + text.replace("'", "''") + "'"


def _printable(text: str) -> str:
    """Text of the database in one line; characters that a terminal would interpret are escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)

"""The table and the file of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.figure import Figure

_BEGIN = "<!-- table -->"
_END = "<!-- end of table -->"
_HEAD = ("figure", "ours", "reference", "ratio", "spread", "target", "")


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table whose columns also line up in a terminal."""
    rows = [_HEAD, *map(_row, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    notes = _grouped([(note, figure.name) for figure in figures for note in _notes(figure)])
    return "\n".join([*lines, *([""] if notes else []), *notes])


def save(path: Path, figures: Sequence[Figure], conditions: dict[str, Any]) -> None:
    """Write ``figures`` with the ``conditions`` of the measurement."""
    document = {"conditions": conditions, "figures": [figure.as_json() for figure in figures]}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def write(page: Path, figures: Sequence[Figure], conditions: dict[str, Any]) -> None:
    """Put the table between the marks in ``page``; raises ValueError when the page has none."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"{page} has no marks for the table: {_BEGIN} and {_END}")
    said = (
        f"{'`make bench-full`' if conditions['scale'] == 'full' else '`make bench`'} on {conditions['date']},"
        f" {conditions['cores']} cores, Python {conditions['python']}, {conditions['system']}; load"
        f" {conditions['load_before']:.1f} when it began."
    )
    page.write_text(f"{before}{begin}\n{said}\n\n{table(figures)}\n{end}{after}", encoding="utf-8")


def _row(figure: Figure) -> tuple[str, ...]:
    low, high = figure.spread
    return (
        figure.name,
        f"{_number(figure.value)} {figure.unit}",
        f"{_number(median(figure.reference))} {figure.unit}" if figure.reference else "",
        "" if figure.ratio is None else _number(figure.ratio),
        f"{_number(low)}-{_number(high)}",
        _target(figure),
        {True: "met", False: "MISSED", None: ""}[figure.is_met],
    )


def _notes(figure: Figure) -> list[str]:
    missed = f"missed; {figure.in_the_way}" if figure.is_met is False and figure.in_the_way else ""
    return [note for note in (figure.note, missed) if note]


def _grouped(notes: Sequence[tuple[str, str]]) -> list[str]:
    """A line for each note, after the names of its figures; beyond three names, their number."""
    names: dict[str, list[str]] = {}
    for note, name in notes:
        names.setdefault(note, []).append(name)
    return [
        f"- {'; '.join(these[:3])}{f'; and {len(these) - 3} more' if len(these) > 3 else ''}: {note}"
        for note, these in names.items()
    ]


def _target(figure: Figure) -> str:
    sign = "≥" if figure.more_is_better else "≤"
    bounds = [] if figure.target is None else [f"{sign} {_number(figure.target)}×"]
    if figure.limit is not None:
        bounds.append(f"{sign} {_number(figure.limit)} {figure.unit}")
    return ", ".join(bounds)


def _number(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"

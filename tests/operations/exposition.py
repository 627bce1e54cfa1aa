"""A strict reader of Prometheus' text format, version 0.0.4; it raises for every violation.

The rules are those of the format's description: one HELP and one TYPE before a family's samples, all samples of a
family together, no sample twice, cumulative buckets that end at +Inf and agree with the count.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_HELP = re.compile(rf"# HELP ({_NAME}) ((?:[^\\\n]|\\\\|\\n)*)")
_TYPE = re.compile(rf"# TYPE ({_NAME}) (counter|gauge|histogram|summary|untyped)")
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(?:,|$)')
_VALUE = re.compile(r"[+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf)|NaN")

Labels = tuple[tuple[str, str], ...]


@dataclass
class Family:
    """One metric; ``samples`` by the sample's name and labels."""

    name: str
    kind: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)


def parse(text: str) -> dict[str, Family]:
    """The families of ``text`` by name; raises ValueError for a violation."""
    if not text.endswith("\n"):
        raise ValueError("the last line has no end")
    families: dict[str, Family] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if (told := _HELP.fullmatch(line)) is not None:
            kind = _TYPE.fullmatch(next(lines, ""))
            if kind is None or kind[1] != told[1] or kind[1] in families:
                raise ValueError(f"after {line!r} must come its only TYPE")
            family = families[kind[1]] = Family(kind[1], kind[2])
        elif families:
            _add(family, line)
        else:
            raise ValueError(f"{line!r} belongs to nothing")
    for family in families.values():
        if family.kind == "histogram":
            _check_histogram(family)
    return families


def _add(family: Family, line: str) -> None:
    sample = _SAMPLE.fullmatch(line)
    if sample is None or not _VALUE.fullmatch(sample[3]):
        raise ValueError(f"no sample: {line!r}")
    suffixes = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
    if sample[1] not in [family.name + suffix for suffix in suffixes]:
        raise ValueError(f"{line!r} is not of {family.name}")
    if family.kind == "counter" and not family.name.endswith("_total"):
        raise ValueError(f"a counter's name ends with _total: {family.name}")
    key = (sample[1], tuple(_labels(sample[2] or "")))
    if key in family.samples:
        raise ValueError(f"twice: {line!r}")
    family.samples[key] = float(sample[3])


def _labels(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        label = _LABEL.match(text, at)
        if label is None:
            raise ValueError(f"no labels: {text!r}")
        yield label[1], label[2]
        at = label.end()


def _check_histogram(family: Family) -> None:
    buckets = [
        (float(labels[0][1]), count)
        for (name, labels), count in family.samples.items()
        if name.endswith("_bucket")
    ]
    if buckets != sorted(buckets) or [count for _, count in buckets] != sorted(count for _, count in buckets):
        raise ValueError(f"the buckets of {family.name} do not grow")
    if not buckets or buckets[-1] != (math.inf, family.samples[f"{family.name}_count", ()]):
        raise ValueError(f"the last bucket of {family.name} is not its count")
    if f"{family.name}_sum" not in [name for name, _ in family.samples]:
        raise ValueError(f"{family.name} has no sum")

"""Every threat names an existing test."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from tests.hostile.test_floods import FLOODS

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "THREAT_MODEL.md").read_text("utf-8")
STRIDE = (
    "Spoofing",
    "Tampering",
    "Repudiation",
    "Information disclosure",
    "Denial of service",
    "Elevation of privilege",
)


def rows(section: str) -> list[str]:
    """The rows of the table under a heading, without its head."""
    lines = DOCUMENT.split(f"### {section}\n", 1)[1].split("\n#", 1)[0].splitlines()
    return [line for line in lines if line.startswith("|")][2:]


@cache
def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions}


def test_each_threat_names_a_test() -> None:
    for section in STRIDE:
        found = rows(section)
        assert found, section
        assert [row for row in found if not re.search(r"`tests/[a-z_/]+\.py::test_\w+`", row)] == []


def test_each_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[a-z_/]+\.py)::(\w+)`", DOCUMENT)
    assert named
    assert [(path, name) for path, name in named if name not in names_in(path)] == []


def test_each_flood_has_its_row_of_results() -> None:
    results = DOCUMENT.split("## What the hostile suite measured\n", 1)[1]
    assert [name for name in FLOODS if f"| {name} |" not in results] == []

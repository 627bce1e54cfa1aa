"""Renders the results as a page."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources

from tests.faults.findings import Findings


def document(found: Sequence[Findings], *, seed: int, bots: int, nodes: int, seconds: float) -> str:
    """The page `docs/faults.md`."""
    held = sum(each.holds for each in found)
    words = resources.files(__package__).joinpath("page.md").read_text("utf-8")
    return words.format(
        seed=seed, bots=bots, nodes=nodes, count=len(found), held=held, seconds=round(seconds),
        date=f"{datetime.now(UTC):%Y-%m-%d}", python=platform.python_version(),
        rows="\n".join(each.cells() for each in found),
    )  # fmt: skip

"""axe-core, which finds what keeps people from using a page; the npm package is a development package."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page

_AXE: Final = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
_RUN: Final = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target}: ${node.failureSummary}`));
}"""


def violations(page: Page) -> list[str]:
    """The violations of axe's rules in the page, each with its element; skips the test where axe-core is missing."""
    if not _AXE.is_file():
        pytest.skip("axe-core is not here: npm ci --ignore-scripts installs it")
    if not page.evaluate("'axe' in window"):
        page.evaluate(_AXE.read_text("utf-8"))
    found: list[str] = page.evaluate(_RUN)
    return found

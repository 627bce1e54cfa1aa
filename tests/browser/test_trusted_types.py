"""The dashboard's page never treats text as markup or code, and the browser enforces that."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.gate import Gate


@pytest.mark.parametrize(
    "sink",
    [
        "document.body.innerHTML = '<img src=x>'",
        "document.body.insertAdjacentHTML('beforeend', '<img src=x>')",
        "document.createElement('script').src = 'other.js'",
        "document.createElement('script').textContent = 'window.ran = 1'",
        "setTimeout('window.ran = 1')",
    ],
)
def test_the_browser_refuses_text_where_markup_or_code_would_be(page: Page, gate: Gate, sink: str) -> None:
    page.goto(gate.url)
    refused = page.evaluate(f"() => {{ try {{ {sink} }} catch (error) {{ return error.name }} }}")
    assert refused == "TypeError"
    assert page.evaluate("() => window.ran") is None

"""The dashboard, as a person sees it."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import ConsoleMessage, Locator, Page, expect

#: Messages that the browser itself logs when a connection fails; no page can prevent them.
_NETWORK = re.compile(r"^(WebSocket connection to|Failed to load resource)")


class Dashboard:
    """One page with the dashboard."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        #: Whether connections are expected to fail.
        self.network_fails = False
        self._url = url
        self._said: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self._said.append(f"uncaught: {error}"))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._said.append(message.text)

    def complaints(self) -> list[str]:
        """Errors, warnings and violations of the content security policy, without the expected ones."""
        return [text for text in self._said if not (self.network_fails and _NETWORK.match(text))]

    def show(self) -> None:
        """Open the page."""
        self.page.goto(self._url)

    def open(self) -> Dashboard:
        """Open the page and wait until it is live."""
        self.show()
        self.expect_word("Live")
        return self

    def part(self, element: str, name: str) -> Locator:
        """A named part of an element of the page."""
        return self.page.locator(f"{element} [data-part={name}]")

    def expect_word(self, word: str, *, seconds: float = 10) -> None:
        """Wait until the page shows ``word`` for the connection."""
        expect(self.part("gw-connection", "word")).to_have_text(word, timeout=seconds * 1000)

    def expect_transport(self, name: str, *, seconds: float = 10) -> None:
        """Wait until the page names ``name`` as its transport."""
        expect(self.part("gw-connection", "transport")).to_have_text(name, timeout=seconds * 1000)

    def row(self, ticket: int) -> Locator:
        """The row of one position."""
        return self.page.locator("gw-positions tbody tr").filter(has_text=str(ticket))

    def cell(self, ticket: int, column: str) -> Locator:
        """A cell of the row, by its class."""
        return self.row(ticket).locator(f".{column}")

    def notice(self) -> Locator:
        """The words that say that the numbers may be out of date."""
        return self.page.locator("gw-notice")

    def colour(self, locator: Locator) -> str:
        """The colour of a text."""
        colour: str = locator.evaluate("element => getComputedStyle(element).color")
        return colour

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """The value of ``script`` in the page."""
        return self.page.evaluate(script, argument)

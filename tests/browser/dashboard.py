"""The dashboard as somebody sees it who looks at the page."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import ConsoleMessage, Locator, Page, expect

#: What a browser itself logs when a connection fails; no page can keep it from that.
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
        """Errors, warnings and violations of the content security policy, less what was to be expected."""
        return [text for text in self._said if not (self.network_fails and _NETWORK.match(text))]

    def show(self) -> None:
        """Open it, whatever it shows."""
        self.page.goto(self._url)

    def open(self) -> Dashboard:
        """Open it and wait until it is live."""
        self.show()
        self.expect_word("Live")
        return self

    def part(self, element: str, name: str) -> Locator:
        """A named part of an element of the page."""
        return self.page.locator(f"{element} [data-part={name}]")

    def expect_word(self, word: str, *, seconds: float = 10) -> None:
        """Wait until the connection is told by ``word``."""
        expect(self.part("gw-connection", "word")).to_have_text(word, timeout=seconds * 1000)

    def expect_transport(self, name: str, *, seconds: float = 10) -> None:
        """Wait until the page says that it is fed by ``name``."""
        expect(self.part("gw-connection", "transport")).to_have_text(name, timeout=seconds * 1000)

    def row(self, ticket: int) -> Locator:
        """The row of one position."""
        return self.page.locator("gw-positions tbody tr").filter(has_text=str(ticket))

    def cell(self, ticket: int, column: str) -> Locator:
        """A cell of it, by its class."""
        return self.row(ticket).locator(f".{column}")

    def notice(self) -> Locator:
        """What says in words that the numbers may not be believed."""
        return self.page.locator("gw-notice")

    def colour(self, locator: Locator) -> str:
        """The colour of a text."""
        colour: str = locator.evaluate("element => getComputedStyle(element).color")
        return colour

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """What ``script`` gives in the page."""
        return self.page.evaluate(script, argument)

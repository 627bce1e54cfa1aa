"""Documents as the tests read them: sections, tables and fenced blocks; PROTOCOL.md unless another text is given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "PROTOCOL.md").read_text()

_FENCE = re.compile(r"^```(.+?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, its purpose for the tests, and its text."""

    language: str
    purpose: str
    text: str


def blocks(purpose: str) -> list[Block]:
    """The blocks of PROTOCOL.md with this purpose, such as ``run``; there is at least one."""
    found = [block for block in all_blocks() if block.purpose == purpose]
    assert found, f"PROTOCOL.md has no block of the purpose {purpose!r}"
    return found


def all_blocks(text: str = TEXT) -> list[Block]:
    """Every fenced block."""
    found = _FENCE.findall(text)
    parts = [(*info.split(" ", 1), "") for info, _ in found]
    return [
        Block(language, purpose, body)
        for (language, purpose, *_), (_, body) in zip(parts, found, strict=True)
    ]


def section(title: str, *, level: int, text: str = TEXT) -> str:
    """The text under a heading, down to the next heading of any level; the heading must occur once."""
    heading = f"{'#' * level} {title}\n"
    _, *found = _FENCE.sub("", text).split("\n" + heading)
    assert len(found) == 1, f"the document has {len(found)} headings {heading!r}"
    return re.split(r"^#", found[0], maxsplit=1, flags=re.MULTILINE)[0]


def tables(text: str) -> list[list[list[str]]]:
    """The tables in ``text``: rows of cells, without the head."""
    found: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
        elif not inside:
            inside = True
            found.append([])
        else:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if set("".join(cells)) - set("-"):
                found[-1].append(cells)
    return found


def table(title: str, *, level: int, text: str = TEXT) -> list[list[str]]:
    """The first table under a heading; an empty one without a table."""
    return next(iter(tables(section(title, level=level, text=text))), [])

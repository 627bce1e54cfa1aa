"""The documents describe exactly the settings, metrics and commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from realtime.metrics import Metrics
from realtime.settings import SETTINGS, Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def rows(document: str, heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = (ROOT / document).read_text("utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def settings_table() -> list[list[str]]:
    """The table of settings as it should be."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    return [
        [f"`{setting.variable}`", _shown(defaults[name]), setting.meaning]
        for name, setting in SETTINGS.items()
    ]


def _shown(default: object) -> str:
    match default:
        case None | "" | ():
            return ""
        case bool():
            return "1" if default else "0"
        case float():
            return f"`{default:g}`"
        case tuple():
            return f"`{','.join(default)}`"
        case _:
            return f"`{default}`"


def metrics_table() -> list[list[str]]:
    """The table of metrics as it should be."""
    return [
        [f"`{metric.name}{{{metric.label}}}`" if metric.label else f"`{metric.name}`", metric.meaning]
        for metric in vars(Metrics()).values()
    ]


def test_every_setting_is_documented_with_its_default_and_nothing_else_is() -> None:
    assert rows("OPERATIONS.md", "Settings") == settings_table()


def test_every_field_of_the_settings_is_read_from_somewhere() -> None:
    assert [field.name for field in msgspec.structs.fields(Settings)] == [*SETTINGS, "timing"]


def test_every_metric_is_documented_and_nothing_else_is() -> None:
    assert rows("OPERATIONS.md", "Metrics") == metrics_table()


def test_metrics_have_prometheus_names() -> None:
    for metric in vars(Metrics()).values():
        assert re.fullmatch(r"guardwire_[a-z_]+", metric.name)


def test_the_readme_shows_the_example_of_a_page_as_it_is() -> None:
    text = (ROOT / "examples" / "print_changes.js").read_text("utf-8")
    assert f"```js\n{text}```" in README


DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as they are made on GitHub."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        if ":" in target:
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


def test_every_file_that_the_tree_names_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    table = [line for line in text.splitlines() if line.startswith("| `")]
    for line in table:
        folder = re.match(r"\| `([^`]+)`", line)
        assert folder is not None
        assert (ROOT / folder[1]).exists(), folder[1]
        for name in re.findall(r"`([a-z_]+\.py)`", line.split("|", 2)[2]):
            assert list((ROOT / folder[1]).glob(name)), f"{folder[1]} {name}"

"""Every command explains itself, with an example to copy."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from realtime import settings
from realtime.cli import application


def names(group: Any, *, before: str = "") -> list[str]:
    """The full name of every command, with the group before it."""
    return [
        name
        for word, command in sorted(group.commands.items())
        for name in (
            names(command, before=f"{before}{word} ") if hasattr(command, "commands") else [before + word]
        )
    ]


COMMANDS = names(typer.main.get_group(application))


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(
        application, arguments, env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_the_commands_are_listed_with_a_sentence_each() -> None:
    listed = printed("--help")
    assert {"demo", "migrate", "peak reset", "serve", "simulate", "token", "watch"} <= set(COMMANDS)
    for name in COMMANDS:
        assert re.search(rf"{name.split()[0]} +\S.*\.", listed), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_and_names_no_setting_that_does_not_exist(name: str) -> None:
    text = printed(*name.split(), "--help")
    example = text.partition("Example")[2]
    assert f"guardwire {name}" in example
    known = {setting.variable for setting in settings.SETTINGS.values()}
    assert set(re.findall(r"GUARDWIRE_[A-Z_]+|\b[A-Z]+_URL\b", text)) <= known

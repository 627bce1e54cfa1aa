"""Every command explains itself, with an example to copy."""

from __future__ import annotations

import re

import pytest
import typer.main
from typer.testing import CliRunner

from realtime import settings
from realtime.cli import application

COMMANDS = sorted(typer.main.get_group(application).commands)


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(
        application, arguments, env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_the_commands_are_listed_with_a_sentence_each() -> None:
    listed = printed("--help")
    assert COMMANDS == ["demo", "migrate", "serve", "simulate", "token", "watch"]
    for name in COMMANDS:
        assert re.search(rf"{name} +\S.*\.", listed), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_and_names_no_setting_that_does_not_exist(name: str) -> None:
    text = printed(name, "--help")
    example = text.partition("Example")[2]
    assert f"guardwire {name}" in example
    known = {setting.variable for setting in settings.SETTINGS.values()}
    assert set(re.findall(r"GUARDWIRE_[A-Z_]+|\b[A-Z]+_URL\b", text)) <= known

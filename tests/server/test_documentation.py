"""What users can set, call and read is in the README."""

import re
from pathlib import Path

import pytest
import typer

from nbody.config import Config
from server.cli import app
from server.settings import ServerSettings

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", Config.model_fields)
def test_a_config_field_is_documented_as_it_is(name: str) -> None:
    field = Config.model_fields[name]
    assert field.description
    row = re.search(rf"^\| `{name}` \|.*$", README, re.MULTILINE)
    assert row is not None
    assert field.description in row.group()


@pytest.mark.parametrize("name", ServerSettings.model_fields)
def test_a_setting_is_documented(name: str) -> None:
    assert f"`ORRERY_{name.upper()}`" in README


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_documented(name: str) -> None:
    assert re.search(rf"orrery {name}\b", README)


def test_the_two_commands_come_first_and_are_one_line_each() -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (first, demo), (second, tests) = blocks[:2]
    assert (first, second) == ("sh", "sh")
    assert demo.count("\n") == tests.count("\n") == 1
    assert "orrery up --demo" in demo
    assert "pytest" in tests

"""What users can set, call and read is in the README."""

import re
from pathlib import Path

import pytest
import typer

from nbody.config import Config
from server.access.roles import PUBLIC_PATHS, allowed_roles
from server.cli.main import app
from server.settings import ServerSettings
from server.web.app import create_app
from server.web.openapi import describe
from tests.server.conftest import layer

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PATHS = describe(layer(create_app(ServerSettings())))["paths"]
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


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for path, routes in PATHS.items() for method in routes]
)
def test_a_route_is_documented_as_it_is(method: str, path: str) -> None:
    public = path in PUBLIC_PATHS
    roles = "anyone" if public else ", ".join(sorted(allowed_roles(method.upper(), path)))
    summary = PATHS[path][method]["description"].partition("\n\n")[0].replace("\n", " ")
    assert f"| `{method.upper()} {path}` | {roles} | {summary} |" in README


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_explained(name: str) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    for one in [command, *getattr(command, "commands", {}).values()]:
        assert one.help
        for parameter in one.params:
            assert parameter.help, f"{name} {parameter.name}"


def test_the_two_commands_come_first_and_are_one_line_each() -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (first, demo), (second, tests) = blocks[:2]
    assert (first, second) == ("sh", "sh")
    assert demo.count("\n") == tests.count("\n") == 1
    assert "orrery up --demo" in demo
    assert "pytest" in tests

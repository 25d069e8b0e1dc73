"""What users can set, call and read stands in the pages, and the pages say what is so."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from nbody.config import Config
from nbody.metrics import EpochMetrics
from server.cli.main import app
from server.settings import ServerSettings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob(".github/*.md")}
    - set(ROOT.glob(".*/*.md"))
    | set(ROOT.glob(".github/*.md"))
)
FIELDS = [
    (model, name) for model in (Config, EpochMetrics, ServerSettings) for name in model.model_fields
]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_the_tables_of_the_pages_are_those_of_the_code() -> None:
    command = [sys.executable, str(ROOT / ".ci" / "pages"), "--check"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(("model", "name"), FIELDS)
def test_a_field_is_described(model: Any, name: str) -> None:
    assert model.model_fields[name].description


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_explained(name: str) -> None:
    command = COMMANDS[name]
    for one in [command, *getattr(command, "commands", {}).values()]:
        assert one.help
        for parameter in one.params:
            assert parameter.help, f"{name} {parameter.name}"


def test_the_first_page_is_short_and_begins_with_two_commands_of_one_line() -> None:
    assert README.count("\n") <= 150
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (first, demo), (second, tests) = blocks[:2]
    assert (first, second) == ("sh", "sh")
    assert demo.count("\n") == tests.count("\n") == 1
    assert "orrery up --demo" in demo
    assert ".ci/test --all" in tests


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link

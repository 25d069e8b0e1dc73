"""Variables that nobody reads are named."""

import os
import re
from pathlib import Path

import pytest

from server.known_variables import SERVER, misspelt
from server.settings import ServerSettings
from tests.server.conftest import Orrery


def test_a_misspelt_variable_is_named_with_the_nearest_one() -> None:
    present = ("ORRERY_KEEP_DAY", "ORRERY_KEEP_DAYS", "orrery_data", "ORRERY_URL", "PATH")
    [told] = misspelt(present).values()
    assert told.endswith("ORRERY_KEEP_DAY; did you mean ORRERY_KEEP_DAYS?")
    [told] = misspelt(["ORRERY_XYZZY_PLUGH"]).values()
    assert told.endswith("ORRERY_XYZZY_PLUGH")


@pytest.mark.parametrize("command", ["doctor", "jobs"])
def test_commands_warn(orrery: Orrery, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("ORRERY_LEASE_TTL", "5")
    assert orrery(command).err.count("did you mean ORRERY_LEASE_TTL_S") == 1


def test_every_setting_of_the_server_is_known() -> None:
    assert {name.upper() for name in ServerSettings.model_fields} == SERVER


def test_only_settings_of_the_server_may_be_written_in_any_case() -> None:
    assert list(misspelt(["orrery_port", "ORRERY_TOKEN", "orrery_token"])) == ["orrery_token"]


def test_a_name_is_no_markup_and_is_not_told_to_what_a_command_starts(
    orrery: Orrery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORRERY_[/x]", "5")
    assert "variable ORRERY_[/x]" in orrery("doctor").err
    assert "ORRERY_[/x]" not in os.environ


def test_every_variable_that_is_read_is_known() -> None:
    here = Path(__file__).parents[2]
    files = [*here.glob("docker/*"), *here.glob("server/cli/*.py"), *here.glob("worker/*.py")]
    named = {
        name
        for path in files
        if path.is_file()
        for name in re.findall(r"\bORRERY_[A-Z_]*[A-Z]", path.read_text(encoding="utf-8"))
    }
    assert "ORRERY_SLOTS" in named
    assert misspelt(named) == {}

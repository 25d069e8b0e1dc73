"""Variables that nobody reads are named."""

import pytest

from server.known_variables import SERVER, misspelt
from server.settings import ServerSettings
from tests.server.conftest import Orrery


def test_a_misspelt_variable_is_named_with_the_nearest_one() -> None:
    present = ("ORRERY_KEEP_DAY", "ORRERY_KEEP_DAYS", "orrery_data", "ORRERY_URL", "PATH")
    [told] = misspelt(present)
    assert told.endswith("ORRERY_KEEP_DAY; did you mean ORRERY_KEEP_DAYS?")
    [told] = misspelt(["ORRERY_XYZZY_PLUGH"])
    assert told.endswith("ORRERY_XYZZY_PLUGH")


@pytest.mark.parametrize("command", ["doctor", "jobs"])
def test_commands_warn(orrery: Orrery, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("ORRERY_LEASE_TTL", "5")
    assert orrery(command).err.count("did you mean ORRERY_LEASE_TTL_S") == 1


def test_every_setting_of_the_server_is_known() -> None:
    assert {name.upper() for name in ServerSettings.model_fields} == SERVER

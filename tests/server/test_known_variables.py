"""Variables that nobody reads are named."""

import pytest

from server.known_variables import misspelt
from server.settings import ServerSettings
from tests.server.conftest import Orrery


def test_a_misspelt_variable_is_named_with_the_nearest_one() -> None:
    present = ("ORRERY_KEEP_DAY", "ORRERY_KEEP_DAYS", "orrery_data", "ORRERY_URL", "PATH")
    [told] = misspelt(present, ServerSettings.model_fields)
    assert told.endswith("ORRERY_KEEP_DAY; did you mean ORRERY_KEEP_DAYS?")
    [told] = misspelt(["ORRERY_XYZZY_PLUGH"], ServerSettings.model_fields)
    assert told.endswith("ORRERY_XYZZY_PLUGH")


def test_commands_that_read_settings_warn(orrery: Orrery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORRERY_LEASE_TTL", "5")
    assert "did you mean ORRERY_LEASE_TTL_S" in orrery("doctor").err

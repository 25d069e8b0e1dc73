"""What of a config goes over to a run on other systems."""

from collections.abc import Mapping
from typing import Any

from nbody.config.config import Config
from nbody.config.field_marks import Mark, fields_with

OF_A_POPULATION = fields_with(Mark.OF_A_POPULATION, Config)


def with_changes(trained: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a whole config with changes; another kind of system begins with its own
    defaults.
    """
    before = trained["initial_conditions"]
    if changes.get("initial_conditions", before) == before:
        return {**trained, **changes}
    defaults = Config().model_dump(mode="json")
    kept = {
        name: value
        for name, value in trained.items()
        if name not in OF_A_POPULATION and value != defaults.get(name)
    }
    return {**kept, **changes}

"""What programs must know of a Config field besides its type: marks beside the field itself.

A mark stands in the field's annotation, `Annotated[float, Mark.CHANGEABLE]`; `fields_with` lists
the fields that have one.
"""

from enum import Enum
from typing import Any

from pydantic import BaseModel


class Mark(Enum):
    """What is special about a field."""

    CHANGEABLE = "takes effect in a run that goes on from a checkpoint; others are in it"
    OF_A_POPULATION = "not every kind of system has it: it does not go over to another kind"
    OF_TRAINING_ALONE = "means nothing to a simulation or an evaluation, which begin without it"
    LATER = "earlier releases have no such field; its default is what they do"


def fields_with(mark: Mark, model: type[BaseModel]) -> dict[str, Any]:
    """The model's fields that have a mark, and their defaults."""
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in model.model_fields.items()
        if mark in field.metadata
    }

"""What all messages share: strictness, texts, numbers and pages."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from nbody.metrics import Whole

Item = TypeVar("Item")
PROTOCOL = 1  # of the worker routes


def _check_instant(given: Any) -> Any:
    """Numbers would be taken for seconds."""
    if not isinstance(given, str | datetime) or (
        isinstance(given, str) and given.replace(".", "", 1).lstrip("+-").isdigit()
    ):
        raise ValueError("use a date and time with a time zone")
    return given


Text = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Notes = Annotated[
    str, Field(max_length=10_000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")
]  # of several lines
Identifier = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:-]+$")]
Instant = Annotated[AwareDatetime, BeforeValidator(_check_instant)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


def _describe_keys(schema: dict[str, Any]) -> None:
    """Keys that do not fit are refused; pydantic's own schema would let them pass unseen."""
    ((pattern, value),) = schema.pop("patternProperties").items()
    schema |= {"propertyNames": {"pattern": pattern}, "additionalProperties": value}


CLOSED = Field(json_schema_extra=_describe_keys)
FileSize = Annotated[int, Whole(0, 2**50)]
EpochNumber = Annotated[int, Whole(0, 10**9)]


class Message(BaseModel):
    """Base of everything that clients send: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class View(BaseModel):
    """Base of everything that the server answers."""

    model_config = ConfigDict(frozen=True)


class Page(View, Generic[Item]):
    """A part of a list; the next part begins `after` its last_id."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    first_id: str | int | None
    last_id: str | int | None

"""What the API answers of the service itself, and its problem documents."""

from typing import Literal

from pydantic import Field, JsonValue

from server.wire.messages import PROTOCOL, View


class Health(View):
    """The service answers."""

    status: Literal["ok"] = "ok"


class Version(View):
    """What runs here."""

    name: Literal["orrery"] = "orrery"
    version: str
    protocol: int = PROTOCOL


class ColumnNames(View):
    """Columns of lists of jobs."""

    object: Literal["columns"] = "columns"
    data: list[str]
    metrics: list[str]
    more_is_better: list[str] = Field(description="Metrics whose best value is the largest.")


class Preset(View):
    """A config to begin with."""

    id: str
    config: dict[str, JsonValue] = Field(description="Fields that are not the defaults.")


class Presets(View):
    """Configs to begin with."""

    object: Literal["presets"] = "presets"
    data: list[Preset]


class FieldError(View):
    """A field that is wrong."""

    pointer: str
    detail: str


class Problem(View):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldError] = Field(default_factory=list)

"""What the API answers of the service itself, and its problem documents."""

from typing import Literal

from pydantic import Field

from server.wire.messages import PROTOCOL, View


class Health(View):
    """The service answers."""

    status: Literal["ok"] = "ok"


class Version(View):
    """What runs here."""

    name: Literal["orrery"] = "orrery"
    version: str
    protocol: int = PROTOCOL


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

"""What the API answers of a job's past: attempts, events, metrics."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from server.wire.messages import CLOSED, Identifier, Message, Text, View
from server.wire.states import StopReason


class Whereabouts(Message):
    """Where an attempt runs, and with what."""

    seed: Annotated[str, Field(pattern=r"^[0-9]{1,19}$")] = Field(
        description="Of every random draw, also where the config left it open; as text, for it may "
        "be larger than what a JavaScript number holds."
    )
    host: Text
    device: Text
    gpu: Text | None = None
    versions: Annotated[dict[Identifier, Text], Field(max_length=32), CLOSED] = Field(
        default_factory=dict, description="Of Python and packages."
    )


class AttemptView(View):
    """One worker's try at a job."""

    object: Literal["attempt"] = "attempt"
    id: int = Field(description="1 is the first attempt.")
    worker_id: str
    started_at: datetime
    ended_at: datetime | None
    first_epoch: int | None = Field(description="Where it began.")
    whereabouts: Whereabouts | None = Field(
        default=None, description="Where it ran, and with what; none until its process began."
    )
    status: Literal["succeeded", "failed", "stopped"] | None
    stop_reason: StopReason | None
    detail: str | None


class Comparison(View):
    """Series of several jobs side by side."""

    object: Literal["comparison"] = "comparison"
    keys: list[str]
    data: dict[str, list[dict[str, float | int | None]]] = Field(
        description="By job id; rows of `epoch` and the keys."
    )


class EventView(View):
    """Something that happened to a job."""

    object: Literal["event"] = "event"
    id: int
    job_id: str
    at: datetime
    type: str
    data: dict[str, JsonValue]


class MetricsPage(View):
    """Epochs in order, one row each; the next part begins `after` its last_epoch."""

    object: Literal["metrics"] = "metrics"
    job_id: str
    data: list[dict[str, float | int | None]]
    has_more: bool
    last_epoch: int | None

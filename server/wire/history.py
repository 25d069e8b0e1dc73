"""What the API answers of a job's past: attempts, events, metrics."""

from datetime import datetime
from typing import Literal

from pydantic import Field, JsonValue

from server.wire.messages import View
from server.wire.states import StopReason


class AttemptView(View):
    """One worker's try at a job."""

    object: Literal["attempt"] = "attempt"
    id: int = Field(description="1 is the first attempt.")
    worker_id: str
    started_at: datetime
    ended_at: datetime | None
    first_epoch: int | None = Field(description="Where it began.")
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

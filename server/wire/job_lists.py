"""Which jobs are meant, and what is done to many of them at once."""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from server.wire.columns import ConditionText
from server.wire.jobs import JobSummary, RetryRequest
from server.wire.kinds import JobKind, Upload
from server.wire.messages import CLOSED, Identifier, Instant, Message, Text, View
from server.wire.states import JobStatus

MANY = 1000  # jobs of one request

JobAction = Literal["cancel", "pause", "resume", "retry", "delete"]


class JobFilter(Message):
    """Jobs that all of this is true of."""

    status: Annotated[list[JobStatus], Field(max_length=20)] = Field(
        default_factory=list, description="Only these states."
    )
    kind: Annotated[list[JobKind | Upload], Field(max_length=20)] = Field(
        default_factory=list, description="Only these kinds."
    )
    name: Text | None = Field(
        default=None, description="Only this name; `*` stands for any characters."
    )
    id: Annotated[str, Field(pattern=r"^[0-9a-z_]{1,30}$")] | None = Field(
        default=None, description="Only ids that begin or end so, with or without `job_`."
    )
    metadata: Annotated[dict[Identifier, Text], Field(max_length=32), CLOSED] = Field(
        default_factory=dict, description="Only jobs with all of these labels."
    )
    created_after: Instant | None = Field(default=None, description="Only younger ones.")
    created_before: Instant | None = Field(default=None, description="Only older ones.")
    filter: Annotated[list[ConditionText], Field(max_length=20)] = Field(
        default_factory=list,
        description="Only where all of these are true, COLUMN OPERATOR VALUE, as in "
        "`part2/efficiency:max>0.9` or `config/lr<=1e-3`.",
    )


class ListedJob(JobSummary):
    """A job in a list."""

    owner: str = Field(description="Name of the token that it was submitted with.")
    values: dict[str, JsonValue] = Field(
        default_factory=dict, description="Of the `columns` that were asked for."
    )


class Statistics(View):
    """Of the values of a column; of those that are no numbers nothing."""

    count: int = Field(description="How many values are numbers.")
    mean: float | None = None
    std: float | None = Field(default=None, description="Standard deviation, with n - 1.")
    min: float | None = None
    median: float | None = None
    max: float | None = None


class JobGroup(View):
    """Jobs with equal values."""

    object: Literal["job_group"] = "job_group"
    id: str = Field(description="The values, as JSON.")
    group: dict[str, JsonValue] = Field(description="The values, by column.")
    jobs: int = Field(description="How many.")
    values: dict[str, Statistics] = Field(description="By column.")


class ManyJobs(Message):
    """Something to do to many jobs: those that are named, or those of a filter that it can be done
    to, the newest first."""

    action: JobAction
    ids: Annotated[
        list[Annotated[str, Field(pattern=r"^job_[0-9a-z]{26}$")]], Field(max_length=MANY)
    ] = Field(default_factory=list, description="Jobs by their ids.")
    where: JobFilter | None = Field(
        default=None, description="Jobs by what is true of them; not empty, and not with `ids`."
    )
    after: Annotated[str, Field(pattern=r"^job_[0-9a-z]{26}$")] | None = Field(
        default=None, description="Of a filter's jobs those after this one, where it has more."
    )
    dry_run: bool = Field(default=False, strict=True, description="Only say to which.")
    force: bool = Field(
        default=False, strict=True, description="`cancel` kills at once, without its grace of 5 s."
    )
    files: bool = Field(
        default=False, strict=True, description="`delete` takes what the jobs wrote, too."
    )
    retry: RetryRequest = Field(
        default_factory=RetryRequest, description="How the jobs that `retry` makes differ."
    )

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if bool(self.ids) == (self.where is not None):
            raise ValueError("say which jobs: either ids or where")
        if self.where is not None and not self.where.model_dump(exclude_defaults=True):
            raise ValueError("where: an empty filter means every job; name a status, at least")
        if self.retry.from_checkpoint is not None:
            raise ValueError("retry: a checkpoint is of one job; use POST /v1/jobs/{job_id}/retry")
        return self


class ActedOn(View):
    """What became of one job."""

    id: str
    status: JobStatus | None = Field(description="Of the job now; null where it is gone.")
    new_job: str | None = Field(default=None, description="What `retry` made.")
    problem: str | None = Field(default=None, description="Why nothing was done to it.")


class ManyActedOn(View):
    """What became of many jobs."""

    object: Literal["job_actions"] = "job_actions"
    data: list[ActedOn]
    has_more: bool = Field(description="Whether there are more: ask again, `after` the last one.")

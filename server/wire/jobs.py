"""What travels over HTTP about jobs, both ways."""

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from nbody.config import Config
from nbody.config.config import field_error
from nbody.metrics import EpochMetrics, Whole
from nbody.watcher import Phase
from server.wire.files import CheckpointView
from server.wire.kinds import JobKind, describe_kinds
from server.wire.messages import CLOSED, EpochNumber, Identifier, Message, Notes, Text, View
from server.wire.states import JobStatus, StopReason
from server.wire.urls import check_notice_address

WAITS_FOR = (
    "What holds it up besides the jobs before it: no worker is there, none can hold it, or as many "
    "of its owner's jobs run as may."
)
OF_A_JOB = re.compile(r"(?:^|/)job_[0-9a-z]{26}/")


def check_new(config: Config) -> Config:
    """A config that a new job may have.

    Raises:
        ValueError
    """
    config.check_arithmetic()
    if config.save_name is not None and config.save_name.startswith("."):
        raise field_error("save_name", "must not begin with '.': such folders are the server's own")
    if OF_A_JOB.search(config.ic_path or ""):
        raise field_error("ic_path", "must not lead into the folder of a job: it may be another's")
    return config


class StepperChoice(Message):
    """A trained stepper: a checkpoint of a job, or one that was uploaded, by its `job_id`."""

    job: Annotated[str, Field(pattern=r"^job_[0-9a-z]{26}$")]
    epoch: EpochNumber | Literal["best"] | None = Field(
        default=None,
        description="Default: the last checkpoint. `best`: the one of the largest efficiency among "
        "those of epochs whose samples passed.",
    )


Labels = Annotated[dict[Identifier, Text], CLOSED]


class Requirements(Message):
    """What a job asks of its worker, besides the memory that its estimate says."""

    gpus: Annotated[int, Whole(0, 1)] = Field(
        default=0, description="1: only a worker with a GPU; a job trains on one."
    )
    gpu_memory: Annotated[int, Whole(0, 2**50)] = Field(
        default=0, description="Least memory of that GPU, or of a slot's share of it [bytes]."
    )
    labels: Labels = Field(
        default_factory=dict, max_length=32, description="Of the worker, as it was started with."
    )

    def check(self, config: Config) -> None:
        """That a config suits them.

        Raises:
            ValueError
        """
        if config.device == "cpu" and self.gpu_bytes:
            raise field_error("requires", "asks for a GPU, and config.device is cpu")

    @property
    def gpu_bytes(self) -> int:
        """Least memory of a GPU; 0 where none is asked for."""
        return max(self.gpu_memory, self.gpus)

    @property
    def needed_labels(self) -> list[str]:
        """Labels, each as one text."""
        return label_texts(self.labels)


def label_texts(labels: dict[str, str]) -> list[str]:
    """Labels, each as one text."""
    return [f"{key}={text}" for key, text in sorted(labels.items())]


class JobSubmission(Message):
    """A job, as a user submits it."""

    name: Text | None = Field(
        default=None, description="For people; default: the config's save_name."
    )
    kind: JobKind = Field(
        default="train",
        description=f"{describe_kinds()}.",
    )
    config: Annotated[Config, AfterValidator(check_new)] = Field(
        description="With a `stepper`, fields that are not given are those of its training; those "
        "that say what its systems were are not, where `initial_conditions` are of another kind."
    )
    stepper: StepperChoice | None = Field(
        default=None, description="What to simulate with, or to evaluate."
    )
    simulate: Annotated[dict[str, JsonValue], Field(max_length=100)] | None = Field(
        default=None,
        description="Of `train`: once it succeeded, simulate with the trained stepper, with these "
        "fields replaced; a job of its own.",
    )
    priority: int = Field(default=0, strict=True, ge=-100, le=100, description="Higher runs first.")
    max_runtime_s: (
        Annotated[float, Field(strict=True, gt=0, le=1e9, allow_inf_nan=False)] | None
    ) = Field(default=None, description="Wall time after which the job is stopped [s].")
    max_attempts: int = Field(
        default=5,
        strict=True,
        ge=1,
        le=100,
        description="Attempts lost to crashes before the job fails; not those lost in a pause.",
    )
    metadata: Labels = Field(default_factory=dict, max_length=32, description="Labels of your own.")
    requires: Requirements = Field(
        default_factory=Requirements, description="Which workers may take it."
    )
    webhook: Annotated[str, Field(max_length=2000), AfterValidator(check_notice_address)] | None = (
        Field(
            default=None,
            description="Who is told when the job is over: `https://…`, called and signed as "
            "Standard Webhooks asks; `slack+https://…`; "
            "`matrix+https://HOST/!ROOM:SERVER?access_token=TOKEN`; `mailto:NAME@HOST`.",
        )
    )

    @model_validator(mode="after")
    def _check_device(self) -> "JobSubmission":
        self.requires.check(self.config)
        return self


class Progress(View):
    """How far a job is."""

    epochs_done: int
    epochs_total: int
    fraction: float


class Failure(View):
    """Why a job failed, and what can be done."""

    code: StopReason
    detail: str


class JobSummary(View):
    """A job as lists show it."""

    object: Literal["job"] = "job"
    id: str
    name: str | None
    kind: str
    status: JobStatus
    phase: Phase | None = Field(description="What a running job is doing.")
    stop_reason: StopReason | None
    priority: int
    attempt: int = Field(description="Attempts begun.")
    progress: Progress
    metadata: dict[str, str]
    retry_of: str | None = Field(description="The job that this one was made from.")
    parent: str | None = Field(
        default=None, description="The training job or the sweep that made this one."
    )
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class QueueEntry(JobSummary):
    """A waiting job as the queue shows it."""

    waits_for: str | None = Field(default=None, description=WAITS_FOR)


class JobView(JobSummary):
    """A job, whole."""

    owner: str = Field(default="", description="Name of the token that it was submitted with.")
    notes: str = Field(default="", description="What its owner wrote down about it.")
    config: Config
    warnings: list[str]
    failure: Failure | None
    max_runtime_s: float | None
    max_attempts: int
    requires: Requirements = Field(
        default_factory=Requirements, description="Which workers may take it."
    )
    webhook: str | None = None
    files_deleted_at: datetime | None = Field(
        default=None, description="When the server's retention took its files."
    )
    from_checkpoint: str | None = Field(
        default=None, description="Where it begins; or what it simulates with, or evaluates."
    )
    simulate: dict[str, JsonValue] | None = Field(
        default=None, description="How to simulate with the stepper, once it is trained."
    )
    queue_position: int | None = Field(description="0 is next; only while queued.")
    waits_for: str | None = Field(default=None, description=WAITS_FOR)
    eta_s: float | None = Field(description="Estimate from measured epoch times [s].")
    latest_metrics: EpochMetrics | None
    latest_checkpoint: CheckpointView | None
    result: dict[str, JsonValue] | None = Field(
        description="Scores on held-out systems, or what a simulation kept; once succeeded."
    )


class ResultView(View):
    """What a job that succeeded found."""

    object: Literal["result"] = "result"
    job_id: str
    kind: JobKind
    data: dict[str, JsonValue]


class ValidationReport(View):
    """What would run, if the same body were submitted."""

    object: Literal["validation"] = "validation"
    config: Config = Field(description="With every default filled in.")
    warnings: list[str]
    parameter_count: int
    estimated_memory_bytes: int = Field(
        description="Peak memory of the training process on a CPU, within 20 % where measured."
    )
    estimated_gpu_memory_bytes: int = Field(
        default=0,
        description="What it takes of a GPU's memory where it trains on one, CUDA itself (560 MB) "
        "included; 0 on the CPU. Counted from its tensors, not measured on a GPU.",
    )
    estimated_checkpoint_bytes: int = Field(
        default=0, description="All its checkpoints together, on the data folder's disk."
    )
    waits_for: str | None = Field(
        default=None, description="What it would wait for now, besides its turn."
    )


class JobChange(Message):
    """What can be changed of a job; what is not given stays."""

    name: Text | None = None
    notes: Notes | None = Field(default=None, description="Replaces the notes; empty for none.")
    priority: Annotated[int, Whole(-100, 100)] | None = Field(
        default=None, description="Of jobs that are not over; counts while they wait."
    )
    metadata: Annotated[dict[Identifier, Text], Field(max_length=32), CLOSED] | None = Field(
        default=None, description="Replaces the labels."
    )
    add_metadata: Annotated[dict[Identifier, Text], Field(max_length=32), CLOSED] | None = Field(
        default=None, description="Labels to set beside those that are there."
    )
    remove_metadata: Annotated[list[Identifier], Field(max_length=32)] | None = Field(
        default=None, description="Keys of labels to take away."
    )


class RetryRequest(Message):
    """How the new job differs from the old one."""

    from_checkpoint: Annotated[str, Field(pattern=r"^ckpt_[0-9a-z]{26}$")] | None = Field(
        default=None, description="A checkpoint of the old job to go on from; else from scratch."
    )
    config: dict[str, JsonValue] = Field(
        default_factory=dict,
        max_length=100,
        description="Fields to replace, for example more epochs.",
    )
    name: Text | None = Field(default=None, description="Default: the old job's.")


class Deleted(View):
    """What is gone."""

    object: Literal["job"] = "job"
    id: str
    deleted: Literal[True] = True
    files: bool = Field(description="Whether its files are gone, too.")


class CancelRequest(Message):
    """How to cancel."""

    grace_s: Annotated[float, Field(strict=True, ge=0, le=60, allow_inf_nan=False)] = Field(
        default=5.0,
        description="Time to write a checkpoint and leave, before the process is killed [s].",
    )
    force: bool = Field(default=False, strict=True, description="Kill at once.")

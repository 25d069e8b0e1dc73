"""What travels over HTTP, both ways. Torch-free; the worker reads these too."""

import base64
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
)

from nbody.config import Config, field_error
from nbody.metrics import EpochMetrics, Whole
from server.states import JobStatus, Phase, StopReason
from server.urls import check_url

Item = TypeVar("Item")
PROTOCOL = 1  # of the worker routes
MAX_EPOCHS_IN_REPORT = 1000
MAX_LOG_BYTES_IN_REPORT = 2**18

Text = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Identifier = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:-]+$")]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _describe_keys(schema: dict[str, Any]) -> None:
    """Keys that do not fit are refused; pydantic's own schema would let them pass unseen."""
    ((pattern, value),) = schema.pop("patternProperties").items()
    schema |= {"propertyNames": {"pattern": pattern}, "additionalProperties": value}


CLOSED = Field(json_schema_extra=_describe_keys)
FileSize = Annotated[int, Whole(0, 2**50)]
EpochNumber = Annotated[int, Whole(0, 10**9)]
Role = Literal["admin", "user", "worker", "viewer"]
JobKind = Literal["train", "simulate", "evaluate"]


class Message(BaseModel):
    """Base of everything that clients send: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class View(BaseModel):
    """Base of everything that the server answers."""

    model_config = ConfigDict(frozen=True)


def _decode(value: Any) -> Any:
    """Strict base64: a foreign character is an error, not a gap."""
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except ValueError:
            raise ValueError("use base64") from None
    return value


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def check_new(config: Config) -> Config:
    """A config that a new job may have.

    Raises:
        ValueError
    """
    config.check_arithmetic()
    if config.save_name is not None and config.save_name.startswith("."):
        raise field_error("save_name", "must not begin with '.': such folders are the server's own")
    return config


# --- jobs ---------------------------------------------------------------------------------------


class StepperChoice(Message):
    """A trained stepper: a checkpoint of a job."""

    job: Annotated[str, Field(pattern=r"^job_[0-9a-z]{26}$")]
    epoch: EpochNumber | None = Field(default=None, description="Default: the last checkpoint.")


class JobSubmission(Message):
    """A job, as a user submits it."""

    name: Text | None = Field(
        default=None, description="For people; default: the config's save_name."
    )
    kind: JobKind = Field(
        default="train",
        description="`train` a stepper; `simulate` a system with one, or with a classical rule; "
        "`evaluate` one on held-out systems beside every criterion in use.",
    )
    config: Annotated[Config, AfterValidator(check_new)] = Field(
        description="With a `stepper`, fields that are not given are those of its training."
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
        description="Attempts lost to crashes before the job fails.",
    )
    metadata: Annotated[dict[Identifier, Text], CLOSED] = Field(
        default_factory=dict, max_length=32, description="Labels of your own."
    )
    webhook: Annotated[str, Field(max_length=2000), AfterValidator(check_url)] | None = Field(
        default=None,
        description="URL that is called when the job is over, signed as Standard Webhooks asks.",
    )


class Progress(View):
    """How far a job is."""

    epochs_done: int
    epochs_total: int
    fraction: float


class CheckpointView(View):
    """A checkpoint file that is whole and durable."""

    object: Literal["checkpoint"] = "checkpoint"
    id: str
    job_id: str
    attempt: int
    epoch: int
    path: str = Field(description="Relative to the data folder.")
    bytes: int
    sha256: str
    created_at: datetime


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


class JobView(JobSummary):
    """A job, whole."""

    config: Config
    warnings: list[str]
    failure: Failure | None
    max_runtime_s: float | None
    max_attempts: int
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


class ArtifactView(View):
    """A file that a simulation or an evaluation made; whole and durable."""

    object: Literal["artifact"] = "artifact"
    id: str
    job_id: str
    attempt: int
    name: str
    path: str = Field(description="Relative to the data folder.")
    bytes: int
    sha256: str
    created_at: datetime


class ValidationReport(View):
    """What would run, if the same body were submitted."""

    object: Literal["validation"] = "validation"
    config: Config = Field(description="With every default filled in.")
    warnings: list[str]
    parameter_count: int
    estimated_memory_bytes: int = Field(
        description="Peak memory of the training process on a CPU, within 20 % where measured. "
        "A GPU needs 336 MB less of its own memory: the process itself."
    )


class JobChange(Message):
    """What can be changed of a job; what is not given stays."""

    name: Text | None = None
    priority: Annotated[int, Whole(-100, 100)] | None = Field(
        default=None, description="Of jobs that are not over; counts while they wait."
    )
    metadata: Annotated[dict[Identifier, Text], Field(max_length=32), CLOSED] | None = Field(
        default=None, description="Replaces the labels."
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


class DeletedSweep(View):
    """What is gone; the jobs of the sweep are not."""

    object: Literal["sweep"] = "sweep"
    id: str
    deleted: Literal[True] = True


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


class CancelRequest(Message):
    """How to cancel."""

    grace_s: Annotated[float, Field(strict=True, ge=0, le=60, allow_inf_nan=False)] = Field(
        default=5.0,
        description="Time to write a checkpoint and leave, before the process is killed [s].",
    )
    force: bool = Field(default=False, strict=True, description="Kill at once.")


class EventView(View):
    """Something that happened to a job."""

    object: Literal["event"] = "event"
    id: int
    job_id: str
    at: datetime
    type: str
    data: dict[str, JsonValue]


class Page(View, Generic[Item]):
    """A part of a list; the next part begins `after` its last_id."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    first_id: str | int | None
    last_id: str | int | None


class MetricsPage(View):
    """Epochs in order, one row each; the next part begins `after` its last_epoch."""

    object: Literal["metrics"] = "metrics"
    job_id: str
    data: list[dict[str, float | int | None]]
    has_more: bool
    last_epoch: int | None


# --- tokens -------------------------------------------------------------------------------------


class TokenRequest(Message):
    """A token to make."""

    name: Text
    role: Role
    expires_in_s: Annotated[float, Field(strict=True, gt=0, le=1e9, allow_inf_nan=False)] | None = (
        None
    )


class TokenView(View):
    """A token, without its secret."""

    object: Literal["token"] = "token"
    id: str
    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewToken(TokenView):
    """A token that was just made; its secret is shown this once."""

    secret: str


class AuditEntry(View):
    """What a person did."""

    object: Literal["audit_entry"] = "audit_entry"
    id: int
    at: datetime
    token_id: str = Field(description="Whose token it was done with.")
    action: str
    target: str = Field(description="Id of the job, sweep, token or worker.")


# --- the worker protocol ------------------------------------------------------------------------


class Gpu(Message):
    """One GPU of a worker's host."""

    name: Text
    memory_bytes: FileSize


class GpuVitals(Message):
    """How one GPU is doing."""

    memory_used_bytes: FileSize
    utilisation: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None = (
        Field(default=None, description="Share of the last second in which a kernel ran.")
    )
    temperature_c: (
        Annotated[float, Field(strict=True, ge=-100, le=300, allow_inf_nan=False)] | None
    ) = Field(default=None, description="In degrees Celsius.")


class Vitals(Message):
    """How a worker's GPUs are doing, in the order in which they were registered."""

    gpus: list[GpuVitals] = Field(max_length=64)


class WorkerRegistration(Message):
    """A worker that offers its slots."""

    protocol: Literal[1] = PROTOCOL
    name: Identifier
    host: Text
    slots: Annotated[int, Whole(1, 64)] = 1
    gpus: list[Gpu] = Field(default_factory=list, max_length=64)
    versions: Annotated[dict[Identifier, Text], CLOSED] = Field(default_factory=dict, max_length=32)


class WorkerView(View):
    """A registered worker and what it is doing."""

    object: Literal["worker"] = "worker"
    id: str
    name: str
    host: str
    slots: int
    gpus: list[Gpu]
    versions: dict[str, str]
    registered_at: datetime
    last_seen_at: datetime | None = Field(description="Since this server started.")
    jobs: list[str] = Field(description="Jobs that it holds.")
    draining: bool = Field(default=False, description="It gets no more jobs.")
    gpu_vitals: list[GpuVitals] = Field(
        default_factory=list[GpuVitals], description="As it said last; in the order of `gpus`."
    )


class DrainRequest(Message):
    """Whether a worker is to get no more jobs; those that it has go on."""

    draining: bool = Field(default=True, strict=True)


class WorkerTerms(View):
    """What a worker that registered must keep to."""

    id: str
    heartbeat_interval_s: float
    lease_ttl_s: float
    stall_timeout_s: float


class ClaimRequest(Message):
    """Asks for a job. The same claim_id gets the same answer."""

    claim_id: Identifier
    kinds: Annotated[list[JobKind], Field(min_length=1, max_length=3)] = Field(
        default=["train"], description="What this worker can do."
    )
    wait_s: Annotated[float, Field(strict=True, ge=0, le=25, allow_inf_nan=False)] = 0.0


class ResumePoint(View):
    """A checkpoint that an attempt may continue from."""

    epoch: EpochNumber
    path: str
    sha256: Sha256


class Assignment(View):
    """A job, handed to a worker under a lease."""

    job: str
    kind: JobKind = "train"
    attempt: int
    lease_id: str
    lease_ttl_s: float
    config: Config
    output_folder: str = Field(description="Relative to the data folder.")
    resume_from: list[ResumePoint] = Field(
        description="Newest first; the first one that is whole counts. Empty: from the start. "
        "Of `simulate` and `evaluate`: the stepper."
    )
    must_resume: bool = Field(
        default=False, description="Fail, not start from scratch, where no checkpoint loads."
    )
    runtime_left_s: float | None


class CheckpointReport(Message):
    """A checkpoint that is durable."""

    epoch: EpochNumber
    path: Annotated[str, Field(max_length=300, pattern=r"^[A-Za-z0-9._/-]+/[A-Za-z0-9_-]+\.pt$")]
    bytes: FileSize
    sha256: Sha256
    rolling: bool = Field(default=False, description="Only to resume from; will be deleted.")


class ArtifactReport(Message):
    """A file of a simulation or an evaluation that is durable."""

    path: Annotated[
        str, Field(max_length=300, pattern=r"^[A-Za-z0-9._/-]+/[A-Za-z0-9_-]+\.(npz|json|png)$")
    ]
    bytes: FileSize
    sha256: Sha256


Base64 = Annotated[
    str,
    Field(
        max_length=4 * -(-MAX_LOG_BYTES_IN_REPORT // 3),
        pattern=r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    ),
]


class LogBytes(Message):
    """Log bytes of an attempt, from its `offset` on."""

    offset: FileSize
    data: Annotated[
        bytes,
        BeforeValidator(_decode, json_schema_input_type=Base64),
        PlainSerializer(_encode, return_type=str),
        Field(max_length=MAX_LOG_BYTES_IN_REPORT, description="Base64."),
    ]


class Report(Message):
    """What an attempt has to tell; an empty one is a heartbeat."""

    first_epoch: EpochNumber | None = Field(default=None, description="Where the attempt began.")
    phase: Phase | None = None
    epochs: list[EpochMetrics] = Field(default_factory=list, max_length=MAX_EPOCHS_IN_REPORT)
    checkpoints: list[CheckpointReport] = Field(default_factory=list, max_length=100)
    artifacts: list[ArtifactReport] = Field(default_factory=list, max_length=100)
    log: LogBytes | None = None


class Command(View):
    """What the worker is to do with the job."""

    action: Literal["cancel", "pause"]
    grace_s: float


class ReportAnswer(View):
    """What the server made of a report."""

    accepted_through: int | None = Field(description="The attempt's last epoch on record.")
    command: Command | None


class Outcome(Message):
    """How an attempt ended; its process is gone."""

    status: Literal["succeeded", "failed", "stopped"]
    stop_reason: StopReason
    detail: Annotated[str, Field(max_length=4000)] | None = None
    result: dict[str, JsonValue] | None = Field(default=None, max_length=64)


class FinishAnswer(View):
    """What became of the job."""

    status: JobStatus


# --- the service itself -------------------------------------------------------------------------


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

"""What travels over HTTP between workers and the server, both ways. Torch-free."""

import base64
import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    PlainSerializer,
    WrapSerializer,
    field_validator,
)

from nbody.config import Config
from nbody.config.field_marks import Mark, fields_with
from nbody.metrics import EpochMetrics, Whole
from nbody.watcher import Phase
from server.wire.history import Whereabouts
from server.wire.kinds import JobKind
from server.wire.messages import (
    CLOSED,
    PROTOCOL,
    EpochNumber,
    FileSize,
    Identifier,
    Message,
    Text,
    View,
)
from server.wire.states import JobStatus, StopReason

FOLDER_MARK = ".orrery-folder"  # file in the data folder by which workers show that they see it
PROOFS = ".orrery/proofs"  # folder in the data folder, of the files that workers show it by
MAX_EPOCHS_IN_REPORT = 1000
MAX_RESULT_BYTES = 2**18
MAX_LOG_BYTES_IN_REPORT = 2**18
MAX_NOTE = 500
LATER = fields_with(Mark.LATER, Config)

FileWays = Literal["shared", "http"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


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

    is_slowed: Annotated[bool, Field(strict=True)] | None = Field(
        default=None, description="Whether heat or power make it run slower."
    )
    ecc_errors: FileSize | None = Field(
        default=None, description="Errors of its memory that were not corrected, since it started."
    )
    foreign_memory_bytes: FileSize | None = Field(
        default=None, description="What processes that are not the worker's hold of its memory."
    )
    xid: Annotated[int, Whole(0, 2**31)] | None = Field(
        default=None,
        description="Of the last error that the driver wrote down of it (Xid), since the worker "
        "began.",
    )
    trouble: Annotated[str, Field(max_length=1000)] | None = Field(
        default=None, description="Why no jobs are taken for it at the moment, and what to do."
    )


class Vitals(Message):
    """How a worker's GPUs are doing, in the order in which they were registered."""

    gpus: list[GpuVitals] = Field(max_length=64)
    trouble: Annotated[str, Field(max_length=1000)] | None = Field(
        default=None,
        description="Why it takes no jobs at the moment, with none of its slots, and what to do.",
    )


class WorkerRegistration(Message):
    """A worker that offers its slots."""

    protocol: Literal[1] = PROTOCOL
    name: Identifier
    host: Text
    folder: Identifier | None = Field(
        default=None,
        description=f"What the file {FOLDER_MARK} in the worker's data folder holds: it must be "
        "the server's data folder. None: it has no such file.",
    )
    proof: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        default=None,
        description=f"Name of a file that the worker has just made in `{PROOFS}` of its data "
        "folder: where the server sees it, both have one folder; else files travel over HTTP. "
        "None: a worker that can only work in the server's folder.",
    )
    slots: Annotated[int, Whole(1, 64)] = 1
    gpus: list[Gpu] = Field(default_factory=list, max_length=64)
    memory_bytes: FileSize | None = Field(
        default=None, description="Of the host, or as much as its container may use."
    )
    versions: Annotated[dict[Identifier, Text], CLOSED] = Field(default_factory=dict, max_length=32)
    labels: Annotated[dict[Identifier, Text], CLOSED] = Field(
        default_factory=dict, max_length=32, description="That jobs may ask for."
    )


class WorkerView(View):
    """A registered worker and what it is doing."""

    object: Literal["worker"] = "worker"
    id: str
    name: str
    host: str
    slots: int
    gpus: list[Gpu]
    memory_bytes: int | None = Field(default=None, description="Of its host or container.")
    versions: dict[str, str]
    labels: dict[str, str] = Field(
        default_factory=dict[str, str], description="That jobs may ask for."
    )
    registered_at: datetime
    last_seen_at: datetime | None = Field(description="None: an earlier release noted nothing.")
    left_at: datetime | None = Field(
        default=None, description="When it said that it takes no more jobs."
    )
    jobs: list[str] = Field(description="Jobs that it holds.")
    draining: bool = Field(default=False, description="It gets no more jobs.")
    refusal: str | None = Field(default=None, description="Why it was refused; it gets no jobs.")
    trouble: str | None = Field(
        default=None,
        description="Why it takes no jobs at the moment, and what to do: `gpu_lost`, `gpu_fault`, "
        "`driver_mismatch` or `gpu_memory_taken`.",
    )
    files: FileWays = Field(
        default="shared", description="Whether it sees the server's folder, or sends its files."
    )
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
    files: FileWays = Field(
        default="shared",
        description="`shared`: it sees the server's data folder, and works in it; `http`: it "
        "brings and takes files by `/v1/leases/{lease_id}/files`.",
    )
    claim_wait_s: float = Field(
        default=2.0,
        description="How long a claim should wait for a job; a worker that ends first says that "
        "it leaves, so that none is given to it.",
    )


class ClaimRequest(Message):
    """Asks for a job. The same claim_id gets the same answer."""

    claim_id: Identifier
    kinds: Annotated[list[Identifier], Field(min_length=1, max_length=64)] = Field(
        default=["train"],
        description="Kinds of jobs that this worker can do; those that this server does not know "
        "are ignored.",
    )
    wait_s: Annotated[float, Field(strict=True, ge=0, le=25, allow_inf_nan=False)] = 0.0
    left_s: Annotated[float, Field(strict=True, ge=0, le=1e9, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Seconds that the worker has; a job of which an epoch takes longer, as far as "
        "is known, is not given to it. None: no end is known.",
    )


class ResumePoint(View):
    """A checkpoint that an attempt may continue from."""

    epoch: EpochNumber
    path: str
    sha256: Sha256


def _as_earlier_releases_know_it(config: dict[str, Any]) -> dict[str, Any]:
    """A config's fields without those that a worker of an earlier release would refuse, where they
    say what it does anyway."""
    return {
        name: value for name, value in config.items() if name not in LATER or value != LATER[name]
    }


class Assignment(View):
    """A job, handed to a worker under a lease."""

    job: str
    kind: JobKind = "train"
    attempt: int
    lease_id: str
    lease_ttl_s: float
    config: Annotated[
        Config, WrapSerializer(lambda config, write: _as_earlier_releases_know_it(write(config)))
    ]
    output_folder: str = Field(description="Relative to the data folder.")
    resume_from: list[ResumePoint] = Field(
        description="Newest first; the first one that is whole counts. Empty: from the start. "
        "Of `simulate` and `evaluate`: the stepper."
    )
    name: str | None = None
    labels: dict[str, str] = Field(default_factory=dict[str, str])
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


class Note(Message):
    """Something that people should know of an attempt, and that changes nothing."""

    about: Identifier
    text: Annotated[str, Field(min_length=1, max_length=MAX_NOTE)]


class Report(Message):
    """What an attempt has to tell; an empty one is a heartbeat."""

    first_epoch: EpochNumber | None = Field(default=None, description="Where the attempt began.")
    whereabouts: Whereabouts | None = Field(default=None, description="Where it runs, said once.")
    phase: Phase | None = None
    epochs: list[EpochMetrics] = Field(
        default_factory=list, fail_fast=True, max_length=MAX_EPOCHS_IN_REPORT
    )
    checkpoints: list[CheckpointReport] = Field(
        default_factory=list, fail_fast=True, max_length=100
    )
    artifacts: list[ArtifactReport] = Field(default_factory=list, fail_fast=True, max_length=100)
    notes: list[Note] = Field(default_factory=list[Note], fail_fast=True, max_length=100)
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

    @field_validator("result")
    @classmethod
    def _is_small(cls, result: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        if len(json.dumps(result)) > MAX_RESULT_BYTES:
            raise ValueError(f"use at most {MAX_RESULT_BYTES} bytes; more goes into an artifact")
        return result


class FinishAnswer(View):
    """What became of the job."""

    status: JobStatus

"""The rows. Instants are UTC seconds since 1970; JSON columns hold plain data."""

from types import NoneType
from typing import Any, ClassVar, get_args

from pydantic.fields import FieldInfo
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    UniqueConstraint,
    false,
    text,
)
from sqlmodel import Field, SQLModel

from nbody.metrics import EpochMetrics


def _zero_bytes() -> Any:
    column = Column(BigInteger(), nullable=False, server_default=text("0"))
    return Field(default=0, sa_column=column)


class Identity(SQLModel, table=True):
    """The one row that tells this database from others, and from older copies of itself."""

    __tablename__: ClassVar[Any] = "identity"

    id: str = Field(primary_key=True)
    mark: int


class Token(SQLModel, table=True):
    """A bearer token; only its hash is kept."""

    __tablename__: ClassVar[Any] = "tokens"

    id: str = Field(primary_key=True)
    name: str
    role: str
    secret_hash: str = Field(unique=True)
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None


class Session(SQLModel, table=True):
    """A browser that was shown a token; only the hash of its cookie is kept."""

    __tablename__: ClassVar[Any] = "sessions"

    secret_hash: str = Field(primary_key=True)
    token_id: str = Field(foreign_key="tokens.id")
    created_at: float
    expires_at: float


NO_LABELS = "[]"
# What a claim looks at, so that it need not read a row that its worker cannot take.
QUEUE = (
    *("status", "queue_rank", "owner_id", "queue_turn", "id"),
    *("kind", "device", "memory_bytes", "epoch_s", "gpu_bytes", "needs"),
)


class Job(SQLModel, table=True):
    """A job. `version` counts its changes, for ETags."""

    __tablename__: ClassVar[Any] = "jobs"
    __table_args__ = (
        Index("jobs_queue", *QUEUE),
        Index("jobs_by_owner_and_status", "owner_id", "status"),
        Index("jobs_by_owner", "owner_id", "id"),
        Index("jobs_by_name", "name", "id"),
        Index("jobs_by_checkpoint", "from_checkpoint"),
        Index("jobs_by_end", "finished_at"),
    )

    id: str = Field(primary_key=True)
    version: int = 1
    name: str | None = None
    kind: str = "train"
    status: str
    phase: str | None = None
    stop_reason: str | None = None
    failure: str | None = None
    owner_id: str
    queue_rank: int = 0  # minus the priority, so that one index gives the order of the queue
    # Among those of one owner and priority; 0: it had its turn, and lost its worker.
    queue_turn: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    retry_of: str | None = None  # the job that this one was made from
    from_checkpoint: str | None = None  # where this one begins, or what it simulates or scores
    simulate: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))  # once trained
    parent: str | None = None  # the job or the sweep that made this one
    notes: str = Field(default="", sa_column_kwargs={"server_default": text("''")})
    webhook: str | None = None  # called when the job is over
    files_gone_at: float | None = None  # when retention took its files
    thinned_every: int | None = None  # by which rule retention thinned its checkpoints
    max_runtime_s: float | None = None
    max_attempts: int
    requires: dict[str, Any] = Field(
        default_factory=dict, sa_column=Column(JSON, nullable=False, server_default="{}")
    )
    gpu_bytes: int = Field(  # least memory of a GPU; 0: it may do without
        default=0, sa_column=Column(BigInteger(), nullable=False, server_default=text("0"))
    )
    needs: str = Field(  # labels of a worker, each as one text, as a JSON array
        default=NO_LABELS, sa_column_kwargs={"server_default": NO_LABELS}
    )
    failures: int = 0
    attempt: int = 0
    lease_id: str | None = Field(default=None, unique=True)
    cancel_grace_s: float | None = None
    config: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    labels: dict[str, str] = Field(sa_column=Column(JSON, nullable=False))
    warnings: list[str] = Field(sa_column=Column(JSON, nullable=False))
    result: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))
    epochs_total: int
    epochs_done: int = 0
    log_bytes: int = 0
    device: str = Field(default="auto", sa_column_kwargs={"server_default": text("'auto'")})
    memory_bytes: int = _zero_bytes()  # as estimated, where it runs; 0: not known
    # Of the longest of its last epochs, when it last left a worker; 0: not known.
    epoch_s: float = Field(default=0.0, sa_column_kwargs={"server_default": text("0")})
    base_bytes: int = _zero_bytes()  # of the row itself; with the next, kept for `usage`
    file_bytes: int = _zero_bytes()  # of its checkpoints and artifacts; triggers keep it
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None


class Usage(SQLModel, table=True):
    """What an owner's jobs store. Triggers on jobs, checkpoints and artifacts keep it."""

    __tablename__: ClassVar[Any] = "usage"

    owner_id: str = Field(primary_key=True)
    row_bytes: int = Field(sa_column=Column(BigInteger(), nullable=False))
    file_bytes: int = Field(sa_column=Column(BigInteger(), nullable=False))


class Attempt(SQLModel, table=True):
    """One worker's try at a job. The lease id is the worker's proof that it holds the job."""

    __tablename__: ClassVar[Any] = "attempts"
    __table_args__ = (
        UniqueConstraint("job_id", "number"),
        Index("attempts_by_claim", "worker_id", "claim_id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    job_id: str = Field(sa_column=Column(ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False))
    number: int
    lease_id: str = Field(unique=True)
    claim_id: str
    worker_id: str = Field(foreign_key="workers.id")
    started_at: float
    ended_at: float | None = None
    boot_id: str = Field(default="", sa_column_kwargs={"server_default": text("''")})
    # At the start, on the clock of that boot of the machine.
    clock: float = Field(default=0.0, sa_column_kwargs={"server_default": text("0")})
    ran_s: float | None = None  # once it ended
    outcome: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))
    status_after: str | None = None  # the job's, when the attempt ended
    lost: bool = False  # ended by the expiry of its lease
    first_epoch: int | None = None
    log_base: int = 0
    whereabouts: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))


class Checkpoint(SQLModel, table=True):
    """A checkpoint file, durable before its row. Rolling ones serve only to resume."""

    __tablename__: ClassVar[Any] = "checkpoints"
    __table_args__ = (
        UniqueConstraint("job_id", "path"),
        Index("checkpoints_by_epoch", "job_id", "rolling", "epoch"),
    )

    id: str = Field(primary_key=True)
    job_id: str = Field(sa_column=Column(ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False))
    attempt: int
    epoch: int
    rolling: bool
    path: str
    bytes: int
    sha256: str
    created_at: float


class InitialConditions(SQLModel, table=True):
    """A file of initial conditions that a user sent, durable before its row."""

    __tablename__: ClassVar[Any] = "initial_conditions"
    __table_args__ = (Index("initial_conditions_by_owner", "owner_id", "sha256"),)

    id: str = Field(primary_key=True)
    owner_id: str
    name: str
    path: str
    bytes: int = Field(sa_column=Column(BigInteger(), nullable=False))
    sha256: str
    num_particles: int
    dim: int
    created_at: float


class Artifact(SQLModel, table=True):
    """A file that a job made besides checkpoints, durable before its row."""

    __tablename__: ClassVar[Any] = "artifacts"
    __table_args__ = (UniqueConstraint("job_id", "path"),)

    id: str = Field(primary_key=True)
    job_id: str = Field(sa_column=Column(ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False))
    attempt: int
    path: str
    bytes: int
    sha256: str
    created_at: float


class Event(SQLModel, table=True):
    """Something that happened to a job; written in the transaction that made it happen."""

    __tablename__: ClassVar[Any] = "events"
    __table_args__ = (Index("events_of_job", "job_id", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    job_id: str = Field(sa_column=Column(ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False))
    at: float
    type: str
    data: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class LogChunk(SQLModel, table=True):
    """Bytes of a job's log, from `offset` on."""

    __tablename__: ClassVar[Any] = "log_chunks"

    job_id: str = Field(
        sa_column=Column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    )
    offset: int = Field(primary_key=True)
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Worker(SQLModel, table=True):
    """A worker agent that registered."""

    __tablename__: ClassVar[Any] = "workers"

    id: str = Field(primary_key=True)
    name: str
    token_id: str = Field(foreign_key="tokens.id")
    host: str
    slots: int
    gpus: list[dict[str, Any]] = Field(sa_column=Column(JSON, nullable=False))
    memory_bytes: int | None = Field(default=None, sa_column=Column(BigInteger()))
    versions: dict[str, str] = Field(sa_column=Column(JSON, nullable=False))
    labels: dict[str, str] = Field(
        default_factory=dict, sa_column=Column(JSON, nullable=False, server_default="{}")
    )
    registered_at: float
    last_seen_at: float | None = None  # noted once a minute
    left_at: float | None = None
    draining: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    refusal: str | None = None  # why it gets no jobs at all
    trouble: str | None = None  # why it asks for none at the moment
    files: str = Field(default="shared", sa_column_kwargs={"server_default": "shared"})


class Turn(SQLModel, table=True):
    """When an owner last got a worker of a pool, in one priority: counted, not timed."""

    __tablename__: ClassVar[Any] = "turns"

    queue_rank: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    pool: str = Field(primary_key=True)
    owner_id: str = Field(primary_key=True)
    turn: int


class Delivery(SQLModel, table=True):
    """A call of a webhook that is to be made; gone once it was answered."""

    __tablename__: ClassVar[Any] = "deliveries"
    __table_args__ = (Index("deliveries_due", "next_at"),)

    id: str = Field(primary_key=True)
    job_id: str = Field(sa_column=Column(ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False))
    url: str
    type: str
    at: float
    tries: int = 0
    next_at: float | None = None  # None once it is given up


class Audit(SQLModel, table=True):
    """What a person did; stays when its target is gone."""

    __tablename__: ClassVar[Any] = "audit"
    __table_args__ = (
        Index("audit_by_token", "token_id", "id"),
        Index("audit_by_target", "target", "id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    at: float
    token_id: str
    action: str
    target: str


class Sweep(SQLModel, table=True):
    """A search for the best fields of a config. `request` is what its user asked for."""

    __tablename__: ClassVar[Any] = "sweeps"
    __table_args__ = (Index("sweeps_by_status", "status"),)

    id: str = Field(primary_key=True)
    version: int = 1
    name: str | None = None
    status: str
    failure: str | None = None
    owner_id: str
    request: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    created_at: float
    finished_at: float | None = None


class Trial(SQLModel, table=True):
    """One job of a sweep, and what became of it. `attributes` is the pruner's own memory."""

    __tablename__: ClassVar[Any] = "trials"
    __table_args__ = (Index("trials_by_job", "job_id", unique=True),)

    sweep_id: str = Field(
        sa_column=Column(ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True)
    )
    number: int = Field(primary_key=True)
    job_id: str | None = None  # None where the params made no valid config
    state: str
    params: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    value: float | None = None
    attributes: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class IdempotencyKey(SQLModel, table=True):
    """A request that made a job or a sweep, so that its repeat gets the same answer."""

    __tablename__: ClassVar[Any] = "idempotency_keys"

    token_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    request_hash: str
    job_id: str | None = Field(
        default=None, sa_column=Column(ForeignKey("jobs.id", ondelete="CASCADE"))
    )
    sweep_id: str | None = Field(
        default=None, sa_column=Column(ForeignKey("sweeps.id", ondelete="CASCADE"))
    )
    created_at: float


def _metric_column(name: str, field: FieldInfo) -> Column[Any]:
    kinds = get_args(field.annotation) or (field.annotation,)
    kind = Integer() if int in kinds else Float()
    return Column(name, kind, nullable=NoneType in kinds, primary_key=name == "epoch")


# One epoch's metrics, a column each, under the field names of EpochMetrics.
_METRICS = {name: _metric_column(name, field) for name, field in EpochMetrics.model_fields.items()}
Table(
    "epochs",
    SQLModel.metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    _METRICS.pop("epoch"),
    Column("attempt", Integer(), nullable=False),
    *_METRICS.values(),
    sqlite_with_rowid=False,
)

# Of each job, what its lists are sorted and filtered by without reading its epochs: of every metric
# the last value, the least and the largest.
Table(
    "summaries",
    SQLModel.metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("epoch", Integer(), nullable=False),
    *(
        Column(f"{over}_{name}", column.type, nullable=True)
        for name, column in _METRICS.items()
        for over in ("last", "min", "max")
    ),
)

METRIC_COLUMNS = tuple(EpochMetrics.model_fields)
ALIASES = {name: field.alias or name for name, field in EpochMetrics.model_fields.items()}
COLUMN_OF = {alias: name for name, alias in ALIASES.items()}  # by the name that users see

identity = SQLModel.metadata.tables["identity"]
usage = SQLModel.metadata.tables["usage"]
jobs = SQLModel.metadata.tables["jobs"]
attempts = SQLModel.metadata.tables["attempts"]
checkpoints = SQLModel.metadata.tables["checkpoints"]
artifacts = SQLModel.metadata.tables["artifacts"]
initial_conditions = SQLModel.metadata.tables["initial_conditions"]
audit = SQLModel.metadata.tables["audit"]
deliveries = SQLModel.metadata.tables["deliveries"]
turns = SQLModel.metadata.tables["turns"]
sweeps = SQLModel.metadata.tables["sweeps"]
trials = SQLModel.metadata.tables["trials"]
events = SQLModel.metadata.tables["events"]
log_chunks = SQLModel.metadata.tables["log_chunks"]
workers = SQLModel.metadata.tables["workers"]
sessions = SQLModel.metadata.tables["sessions"]
tokens = SQLModel.metadata.tables["tokens"]
idempotency_keys = SQLModel.metadata.tables["idempotency_keys"]
epochs = SQLModel.metadata.tables["epochs"]
summaries = SQLModel.metadata.tables["summaries"]

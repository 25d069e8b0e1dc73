"""Settings of the server, from the environment (ORRERY_…) or the command line, read once."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.wire.urls import check_mail_server, check_url
from server.wire.workers import FOLDER_MARK


class ServerSettings(BaseSettings):
    """Everything about the server that is not a job."""

    model_config = SettingsConfigDict(env_prefix="ORRERY_", extra="ignore")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8080, description="Port; 0 picks one."
    )
    socket: Path | None = Field(
        default=None,
        description="A Unix socket to listen on instead, for a proxy on this host.",
    )
    data: Path = Field(
        default=Path("data"), description="Data folder: database, tokens, run output."
    )
    auth: bool = Field(default=True, description="Ask for tokens. Off only on a loopback address.")
    admin_token_file: Path | None = Field(
        default=None,
        description="Admin token; default DATA/.orrery/admin.token, made at first start.",
    )
    worker_token_file: Path | None = Field(
        default=None,
        description="Worker token; default DATA/.orrery/worker.token, made at first start.",
    )
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="Host names to answer for, besides localhost and IP addresses (JSON list).",
    )
    store: (
        Annotated[str, Field(pattern=r"^s3://[A-Za-z0-9.-]{3,63}(/[A-Za-z0-9._/-]+)?$")] | None
    ) = Field(
        default=None,
        description="Where files of jobs go, `s3://BUCKET/PREFIX`, besides the data folder; "
        "credentials, region and endpoint by AWS_….",
    )
    cors_origins: list[Annotated[str, Field(pattern=r"^https?://[^/\s]{1,255}$")]] = Field(
        default_factory=list,
        description="Other sites whose pages may call the API with a token (JSON list of origins, "
        "as https://plots.example.org).",
    )
    max_body_bytes: Annotated[int, Field(ge=1024, le=2**30)] = Field(
        default=2**20, description="Largest request body of clients."
    )
    max_upload_bytes: Annotated[int, Field(ge=1024, le=2**40)] = Field(
        default=2**28,
        description="Largest file that a client may send: a checkpoint, initial conditions.",
    )
    max_input_bytes: Annotated[int, Field(ge=0, le=2**60)] = Field(
        default=2**30,
        description="Of initial conditions that one token may have sent; 0: no limit.",
    )
    max_report_bytes: Annotated[int, Field(ge=1024, le=2**30)] = Field(
        default=4 * 2**20, description="Largest request body of workers."
    )
    max_connections: Annotated[int, Field(ge=8, le=10**6)] = Field(
        default=4096,
        description="Connections in all, as far as file descriptors allow; half of them for "
        "clients that have shown no token yet. Where those with tokens are all taken, the token "
        "that has most makes room.",
    )
    body_timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=20.0, description="Time for a request body to arrive [s]."
    )
    head_timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=20.0, description="Time for a request's head to arrive [s]."
    )
    heartbeat_interval_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=1.0, description="How often workers report [s]."
    )
    lease_ttl_s: Annotated[float, Field(gt=0, le=86400)] = Field(
        default=30.0, description="A worker not heard of for this long loses its jobs [s]."
    )
    stall_timeout_s: Annotated[float, Field(gt=0, le=86400)] = Field(
        default=600.0, description="A training process without progress for this long is ended [s]."
    )

    writes_per_minute: Annotated[int, Field(ge=0, le=10**6)] = Field(
        default=600,
        description="Writes of one token in a minute, workers apart; each 32 KiB of a body count "
        "as another; 0: no limit.",
    )
    max_queued_jobs: Annotated[int, Field(ge=0, le=10**6)] = Field(
        default=1000, description="Waiting jobs of one token; 0: no limit."
    )
    max_row_bytes: Annotated[int, Field(ge=0, le=2**60)] = Field(
        default=4 * 2**30,
        description="Of configs, metrics and logs in the database, of one token's jobs, beyond "
        "which it submits no more; 0: no limit.",
    )
    max_file_bytes: Annotated[int, Field(ge=0, le=2**60)] = Field(
        default=0,
        description="The same of checkpoints and artifacts; 0: no limit.",
    )
    user_priority: Annotated[int, Field(ge=-100, le=100)] = Field(
        default=10, description="Highest priority that users may give; admins may give up to 100."
    )
    max_running_jobs: Annotated[int, Field(ge=0, le=10**6)] = Field(
        default=0, description="Jobs of one token that run at a time; more wait. 0: no limit."
    )

    keep_every: Annotated[int, Field(ge=0, le=10**6)] = Field(
        default=0,
        description="Of jobs that are over keep the first checkpoint, the last, the best and those "
        "of every so many epochs; 0: all.",
    )
    keep_days: Annotated[float, Field(ge=0, le=1e5)] = Field(
        default=0.0, description="Delete files of jobs that have been over for so long; 0: never."
    )
    disk_quota_bytes: Annotated[int, Field(ge=0, le=2**60)] = Field(
        default=0,
        description="Delete files of the oldest jobs that are over while all together are larger; "
        "0: never.",
    )
    webhook_private: bool = Field(
        default=False, description="Call webhooks on addresses that are not public, too."
    )
    public_url: Annotated[str, AfterValidator(check_url)] | None = Field(
        default=None,
        description="Where people reach the server, as https://orrery.example.org or "
        "https://example.org/orrery: it answers for that name, and a proxy in front of it may take "
        "the path away, which `Location` then has for whoever asks. Messages link there.",
    )
    mail_server: Annotated[str, AfterValidator(check_mail_server)] | None = Field(
        default=None,
        description="Who takes mails: smtp://USER:PASSWORD@HOST:PORT, or smtps://…; none are sent "
        "without.",
    )
    mail_from: str = Field(default="orrery@localhost", description="Whom mails are from.")
    log_format: Literal["text", "json"] = Field(
        default="text", description="Of the log: lines for people, or JSON objects."
    )

    tracing: bool = Field(
        default=False,
        description="Tell OpenTelemetry of every request (OTEL_… variables say where); needs the "
        "extra `tracing`.",
    )

    @model_validator(mode="after")
    def _open_to_the_network_needs_tokens(self) -> Self:
        if not self.auth and not is_loopback(self.host):
            raise ValueError(
                f"refusing to listen on {self.host} without tokens; use auth, or host 127.0.0.1"
            )
        if self.lease_ttl_s < 3 * self.heartbeat_interval_s:
            raise ValueError("lease_ttl_s must be at least three heartbeat intervals")
        return self

    @property
    def state_folder(self) -> Path:
        """Where the server keeps what is its own."""
        return self.data / ".orrery"

    @property
    def uploads_folder(self) -> Path:
        """Files that are being sent."""
        return self.state_folder / "uploads"

    @property
    def database_path(self) -> Path:
        """The database file."""
        return self.state_folder / "orrery.db"

    @property
    def folder_mark_path(self) -> Path:
        """The file by which workers show that they see this data folder."""
        return self.data / FOLDER_MARK

    @property
    def admin_token_path(self) -> Path:
        """The admin token's file."""
        return self.admin_token_file or self.state_folder / "admin.token"

    @property
    def webhook_key_path(self) -> Path:
        """The file with the key that webhooks are signed with."""
        return self.state_folder / "webhook.secret"

    @property
    def worker_token_path(self) -> Path:
        """The worker token's file."""
        return self.worker_token_file or self.state_folder / "worker.token"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

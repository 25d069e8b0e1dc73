"""What the API answers of files: checkpoints, and what else jobs leave."""

import re
from datetime import datetime
from typing import Literal

from pydantic import Field

from server.wire.messages import View

# A checkpoint or another file of an attempt, relative to the data folder.
FILE_OF_ATTEMPT = r"^[A-Za-z0-9._/-]+/[A-Za-z0-9_-]+\.(pt|npz|json|png)$"

# Of a file that a user sent: where it is, and its id.
SENT_FILE = re.compile(r"inputs/(ic_[0-9a-z]{26})/[A-Za-z0-9._-]+")


def id_of_sent(path: str | None) -> str | None:
    """The id of a file that a user sent, by an `ic_path`; None where that is another one."""
    match = SENT_FILE.fullmatch(path or "")
    return match and match[1]


class CheckpointView(View):
    """A checkpoint file that is whole and durable."""

    object: Literal["checkpoint"] = "checkpoint"
    id: str
    job_id: str
    attempt: int
    epoch: int
    pass_rate: float | None = Field(
        default=None,
        description="Share of its epoch's samples that passed the gate; one of less than 0.9 is of "
        "a bad epoch.",
    )
    efficiency: float | None = Field(
        default=None, description="Oracle's steps over the network's on its epoch's samples."
    )
    path: str = Field(description="Relative to the data folder.")
    bytes: int
    sha256: str
    created_at: datetime


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


class InitialConditionsView(View):
    """A file of initial conditions that a user sent; whole and durable."""

    object: Literal["initial_conditions"] = "initial_conditions"
    id: str
    name: str
    path: str = Field(description="Relative to the data folder: the `ic_path` of a config.")
    num_particles: int
    dim: int = Field(description="2 or 3.")
    bytes: int
    sha256: str
    created_at: datetime


class DeletedFile(View):
    """A file that is gone."""

    object: Literal["initial_conditions"] = "initial_conditions"
    id: str
    deleted: Literal[True] = True


class Arrived(View):
    """How much of a file has come."""

    bytes: int = Field(description="From its start; the next piece goes on there.")
    is_whole: bool = Field(description="All of it, and its sha256 is the one that was told.")

"""The kinds of jobs, as facts. What each does is a task of `worker.child.process`."""

from dataclasses import dataclass
from typing import Literal

JobKind = Literal["train", "simulate", "evaluate", "export", "advise"]
Upload = Literal["upload"]  # what is listed among jobs, and is none: a checkpoint that a user sent
UPLOAD: Upload = "upload"


@dataclass(frozen=True)
class Kind:
    """What a kind of job is and needs.

    Attributes:
        meaning: in a few words, for users.
        trains: whether it has epochs and ends with a trained stepper.
        stepper: whether a trained stepper is what it works with: `optional` where the stepping rule
            of its config decides.
        needs: fields of its config that it cannot do without.
    """

    meaning: str
    trains: bool = False
    stepper: Literal["none", "optional", "required"] = "required"
    needs: tuple[str, ...] = ()


KINDS: dict[JobKind, Kind] = {
    "train": Kind("`train` a stepper", trains=True, stepper="none"),
    "simulate": Kind("`simulate` a system with one, or with a classical rule", stepper="optional"),
    "evaluate": Kind("`evaluate` one on held-out systems beside every criterion in use"),
    "export": Kind("`export` one as C, Fortran, a REBOUND integrator, ONNX and safetensors"),
    "advise": Kind(
        "`advise` how to integrate a system for its duration, with energy errors under "
        "energy_threshold: which integrator, which steps, tried beside REBOUND's",
        stepper="optional",
        needs=("duration",),
    ),
}


def describe_kinds() -> str:
    """All kinds in one line."""
    return "; ".join(kind.meaning for kind in KINDS.values())

"""The kinds of jobs."""

from typing import Literal

JobKind = Literal["train", "simulate", "evaluate"]

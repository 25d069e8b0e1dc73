"""The ways to integrate that are tried: ours with every criterion and stepper, and REBOUND's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from nbody.advice.rebound_trials import (
    Setting,
    fixed_steps,
    ias15,
    rebound_trial,
    shortest_free_fall,
)
from nbody.advice.trials import Trial, native_trial
from nbody.config.stepping_rules import METHODS, IntegratorName
from nbody.native.engine import CriterionName, NativeRule, NativeSystem
from nbody.native.weights import Weights, weights_of
from nbody.stepper import load_stepper

Attempt = Callable[[NativeSystem, float, float], Trial]  # system, accuracy, span
Lines = Callable[[NativeSystem, float], str]

HERMITE: tuple[CriterionName, ...] = (
    *("r/v", "free fall", "free fall (r/a)^(1/3)"),
    *("Aarseth 1985", "Pham, Rein & Spiegel 2024", "leading error, no network"),
)
REVERSIBLE: tuple[CriterionName, ...] = ("free fall", "free fall (r/a)^(1/3)")
LEAPFROGS: tuple[IntegratorName, ...] = ("leapfrog2", "leapfrog4", "leapfrog6", "leapfrog8")


class TrainedStepper(NamedTuple):
    """A stepper that is tried, by its file's name."""

    name: str
    integrator: IntegratorName
    weights: Weights

    @classmethod
    def load(cls, path: Path) -> "TrainedStepper":
        """The stepper in a checkpoint.

        Raises:
            CheckpointUnreadable, NotCompilable
        """
        loaded = load_stepper(path)
        config = loaded.config
        weights = weights_of(loaded.model, config.feature_type, config.history_len)
        return cls(str(path), config.integrator, weights)


@dataclass(frozen=True)
class Ladder:
    """Accuracies: rung 0 is a rough one, each further one finer by a factor.

    Attributes:
        roughest: the first rung that may be tried.
    """

    first: float
    factor: float
    roughest: int = -6

    def accuracy(self, rung: float) -> float:
        """The accuracy of a rung, or of a place between two; negative ones are rougher still."""
        return self.first / self.factor**rung


@dataclass(frozen=True)
class Candidate:
    """One way to integrate.

    Attributes:
        name: integrator and rule, in words.
        ladder: its accuracies.
        attempt: runs a system with an accuracy for a span.
        lines: of Python that make a REBOUND simulation of a system run so, with an accuracy.
        learned: whether a trained stepper chooses its steps.
        planetary: whether it is for a dominant mass only.
        fixed_steps: whether all steps of a run are of one length.
    """

    name: str
    ladder: Ladder
    attempt: Attempt
    lines: Lines
    learned: bool = False
    planetary: bool = False
    fixed_steps: bool = False


def native_candidates(
    steppers: Sequence[TrainedStepper] = (),
) -> list[Candidate]:
    """Ours: Hermite with every criterion, leapfrogs in steps symmetric in time, trained steppers.

    Args:
        steppers: those that are tried, too.
    """
    found = [_native("hermite4", criterion) for criterion in HERMITE]
    found += [_native(leapfrog, criterion) for leapfrog in LEAPFROGS for criterion in REVERSIBLE]
    return found + [_trained(stepper) for stepper in steppers]


def rebound_candidates() -> list[Candidate]:
    """REBOUND's; none where it is not installed."""
    if find_spec("rebound") is None:
        return []
    orders = [
        _rebound(f"REBOUND leapfrog {order}", Ladder(first, 1.5), "leapfrog", order=order)
        for order, first in ((2, 0.05), (4, 0.2), (6, 0.4), (8, 0.5))
    ]
    return [
        Candidate(
            "REBOUND IAS15",
            Ladder(64.0, 4.0),
            partial(_attempt_rebound, ias15),
            lambda _, accuracy: (
                f'sim.integrator = "ias15"\nsim.integrator.epsilon = {accuracy:.4g}'
            ),
        ),
        *orders,
        _rebound("REBOUND WHFast", Ladder(0.5, 1.7, 0), "whfast", planetary=True),
        _rebound("REBOUND TRACE", Ladder(0.5, 1.7, 0), "trace", planetary=True),
    ]


def _native(integrator: IntegratorName, criterion: CriterionName) -> Candidate:
    symmetric = METHODS[integrator].symmetric
    ladder = Ladder(1e-4, 8.0) if criterion == HERMITE[-1] else Ladder(0.7, 1.5)

    def attempt(system: NativeSystem, accuracy: float, span: float) -> Trial:
        rule = NativeRule(accuracy, criterion, reversible=symmetric)
        return native_trial(system, integrator, rule, span)

    return Candidate(
        f"{integrator}, {criterion}",
        ladder,
        attempt,
        lambda _, accuracy: (
            "from nbody.rebound import use\n"
            f'use(sim, integrator="{integrator}", criterion="{criterion}", '
            f"accuracy={accuracy:.4g})"
        ),
    )


def _trained(stepper: TrainedStepper) -> Candidate:
    symmetric = METHODS[stepper.integrator].symmetric

    def attempt(system: NativeSystem, accuracy: float, span: float) -> Trial:
        rule = NativeRule(accuracy, stepper=stepper.weights, reversible=symmetric)
        return native_trial(system, stepper.integrator, rule, span)

    return Candidate(
        f"{stepper.integrator}, {stepper.name}",
        Ladder(1e-4, 8.0),
        attempt,
        lambda _, accuracy: (
            f'from nbody.rebound import use\nuse(sim, "{stepper.name}", accuracy={accuracy:.4g})'
        ),
        learned=True,
    )


def _rebound(
    name: str, ladder: Ladder, integrator: str, *, planetary: bool = False, **fields: int
) -> Candidate:
    def lines(system: NativeSystem, accuracy: float) -> str:
        told = [f'sim.integrator = "{integrator}"']
        told += [f"sim.integrator.{field} = {value}" for field, value in fields.items()]
        return "\n".join([*told, f"sim.dt = {accuracy * shortest_free_fall(system):.6g}"])

    return Candidate(
        name,
        ladder,
        partial(_attempt_rebound, fixed_steps(integrator, **fields)),
        lines,
        planetary=planetary,
        fixed_steps=True,
    )


def _attempt_rebound(setting: Setting, system: NativeSystem, accuracy: float, span: float) -> Trial:
    return rebound_trial(system, setting, accuracy, span)

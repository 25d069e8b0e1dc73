"""The ways to integrate that are tried: ours with every criterion and stepper, and REBOUND's."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from nbody.advice.rebound_trials import Setting, fixed_steps, ias15, rebound_trial
from nbody.advice.trials import Trial, native_trial
from nbody.config.stepping_rules import METHODS, IntegratorName
from nbody.native.engine import CriterionName, NativeRule, NativeSystem
from nbody.native.weights import Weights

Attempt = Callable[[NativeSystem, float, float], Trial]  # system, accuracy, span

HERMITE: tuple[CriterionName, ...] = (
    *("r/v", "free fall", "free fall (r/a)^(1/3)"),
    *("Aarseth 1985", "Pham, Rein & Spiegel 2024", "leading error, no network"),
)
REVERSIBLE: tuple[CriterionName, ...] = ("free fall", "free fall (r/a)^(1/3)")
LEAPFROGS: tuple[IntegratorName, ...] = ("leapfrog2", "leapfrog4", "leapfrog6", "leapfrog8")


@dataclass(frozen=True)
class Ladder:
    """Accuracies, from the roughest: each finer than the last by a factor."""

    first: float
    factor: float

    def __iter__(self) -> Iterator[float]:
        accuracy = self.first
        while True:
            yield accuracy
            accuracy /= self.factor


@dataclass(frozen=True)
class Candidate:
    """One way to integrate.

    Attributes:
        name: integrator and rule, in words.
        ladder: its accuracies.
        attempt: runs a system with an accuracy for a span.
        code: lines of Python that run a REBOUND simulation so; {accuracy} stands for it.
        learned: whether a trained stepper chooses its steps.
        planetary: whether it is for a dominant mass only.
    """

    name: str
    ladder: Ladder
    attempt: Attempt
    code: str
    learned: bool = False
    planetary: bool = False


def native_candidates(steppers: Sequence[tuple[str, IntegratorName, Weights]] = ()) -> list[Candidate]:
    """Ours: Hermite with every criterion, leapfrogs in steps symmetric in time, trained steppers.

    Args:
        steppers: name, integrator and weights of each.
    """
    found = [_native("hermite4", criterion) for criterion in HERMITE]
    found += [_native(leapfrog, criterion) for leapfrog in LEAPFROGS for criterion in REVERSIBLE]
    return found + [_trained(*stepper) for stepper in steppers]


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
            Ladder(10.0, 10.0),
            partial(_attempt_rebound, ias15),
            'sim.integrator = "ias15"\nsim.integrator.epsilon = {accuracy:.3g}',
        ),
        *orders,
        _rebound("REBOUND WHFast", Ladder(0.5, 1.7), "whfast", planetary=True),
        _rebound("REBOUND TRACE", Ladder(0.5, 1.7), "trace", planetary=True),
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
        "from nbody.rebound import use\n"
        f'use(sim, integrator="{integrator}", criterion="{criterion}", accuracy={{accuracy:.3g}})',
    )


def _trained(name: str, integrator: IntegratorName, weights: Weights) -> Candidate:
    symmetric = METHODS[integrator].symmetric

    def attempt(system: NativeSystem, accuracy: float, span: float) -> Trial:
        rule = NativeRule(accuracy, stepper=weights, reversible=symmetric)
        return native_trial(system, integrator, rule, span)

    return Candidate(
        f"{integrator}, {name}",
        Ladder(1e-4, 8.0),
        attempt,
        f'from nbody.rebound import use\nuse(sim, "{name}", accuracy={{accuracy:.3g}})',
        learned=True,
    )


def _rebound(name: str, ladder: Ladder, integrator: str, *, planetary: bool = False, **fields: int) -> Candidate:
    lines = [f'sim.integrator = "{integrator}"']
    lines += [f"sim.integrator.{field} = {value}" for field, value in fields.items()]
    return Candidate(
        name,
        ladder,
        partial(_attempt_rebound, fixed_steps(integrator, **fields)),
        "\n".join([*lines, "sim.dt = {accuracy:.6g}"]),
        planetary=planetary,
    )


def _attempt_rebound(setting: Setting, system: NativeSystem, accuracy: float, span: float) -> Trial:
    return rebound_trial(system, setting, accuracy, span)

"""Integrators, and the stepping rules of simulations, as facts: what each is, and what it needs.

Who steps is `nbody.integrators` and `nbody.simulation.rules`.
"""

from dataclasses import dataclass
from typing import Literal

IntegratorName = Literal[
    "leapfrog2",
    "leapfrog4",
    "leapfrog6",
    "leapfrog8",
    "hermite4",
    "hermite4_pec2",
    "hermite4_pec3",
]
IntegratorMode = Literal["fixed", "analytic", "ml", "history", "gated", "reversible"]


@dataclass(frozen=True)
class Method:
    """What an integrator is.

    Attributes:
        order: p; the error of a run grows with dt^p, that of one step with dt^(p+1).
        passes: over all pairs of particles, in one step.
        symmetric: whether a step back from where it led ends where it began, to rounding.
        predicts: whether it begins with the derivatives that the last step left, and ends where no
            pass was made.
        source: where it is described.
    """

    order: int
    passes: int
    symmetric: bool
    predicts: bool
    source: str


_COMPOSED = "Kahan & Li 1997, Math. Comp. 66, 1089"
_HERMITE = "Makino & Aarseth 1992, PASJ 44, 141"

METHODS: dict[IntegratorName, Method] = {
    "leapfrog2": Method(2, 1, True, False, "Hockney & Eastwood 1988, §4-4"),
    "leapfrog4": Method(4, 3, True, False, "Yoshida 1990, Phys. Lett. A 150, 262"),
    "leapfrog6": Method(6, 9, True, False, _COMPOSED),
    "leapfrog8": Method(8, 17, True, False, _COMPOSED),
    "hermite4": Method(4, 1, False, True, _HERMITE),
    "hermite4_pec2": Method(4, 2, False, True, _HERMITE),
    "hermite4_pec3": Method(4, 3, False, True, _HERMITE),
}


@dataclass(frozen=True)
class SteppingRule:
    """What a rule is and needs.

    Attributes:
        meaning: in a few words, for people.
        stepper: whether it asks a trained stepper: always, where there is one, or never.
        past: whether that stepper must have been trained with a history, or without; None: either.
        field: of a Config, which it cannot do without.
        symmetric: whether the integrator must be symmetric in time.
    """

    meaning: str
    stepper: Literal["required", "optional", "unused"]
    past: Literal["required", "refused"] | None = None
    field: str | None = None
    symmetric: bool = False


STEPPING_RULES: dict[IntegratorMode, SteppingRule] = {
    "fixed": SteppingRule("dt at every step", "unused", field="dt"),
    "analytic": SteppingRule("eta times free fall", "unused"),
    "ml": SteppingRule("the trained stepper", "required"),
    "history": SteppingRule("the trained stepper, which sees its past", "required", "required"),
    "gated": SteppingRule(
        "the stepper, or analytic without one, shortened until the step passes the gate", "optional"
    ),
    "reversible": SteppingRule(
        "the stepper, or analytic without one, made symmetric in time, as the integrator must be",
        "optional",
        "refused",
        symmetric=True,
    ),
}


def describe_rules() -> str:
    """All rules in one line."""
    return "; ".join(f"{name} ({rule.meaning})" for name, rule in STEPPING_RULES.items())


def rule_with_stepper(history_len: int, integrator: IntegratorName) -> IntegratorMode:
    """The rule of who names a trained stepper, and no rule: the one whose errors do not add up from
    orbit to orbit. What a network says of its past cannot be made symmetric in time, nor can an
    integrator that is not.
    """
    if history_len:
        return "history"
    return "reversible" if METHODS[integrator].symmetric else "ml"

"""The stepping rules of simulations, as facts: what each is, and what it needs.

Who steps by them is `nbody.simulation.rules`.
"""

from dataclasses import dataclass
from typing import Literal

IntegratorMode = Literal["fixed", "analytic", "ml", "history", "gated", "reversible"]


@dataclass(frozen=True)
class SteppingRule:
    """What a rule is and needs.

    Attributes:
        meaning: in a few words, for people.
        stepper: whether it asks a trained stepper: always, where there is one, or never.
        past: whether that stepper must have been trained with a history, or without; None: either.
        field: of a Config, which it cannot do without.
    """

    meaning: str
    stepper: Literal["required", "optional", "unused"]
    past: Literal["required", "refused"] | None = None
    field: str | None = None


STEPPING_RULES: dict[IntegratorMode, SteppingRule] = {
    "fixed": SteppingRule("dt at every step", "unused", field="dt"),
    "analytic": SteppingRule("eta times free fall", "unused"),
    "ml": SteppingRule("the trained stepper", "required"),
    "history": SteppingRule("the trained stepper, which sees its past", "required", "required"),
    "gated": SteppingRule(
        "the stepper, or analytic without one, shortened until the step passes the gate", "optional"
    ),
    "reversible": SteppingRule(
        "the stepper, or analytic without one, made symmetric in time", "optional", "refused"
    ),
}


def describe_rules() -> str:
    """All rules in one line."""
    return "; ".join(f"{name} ({rule.meaning})" for name, rule in STEPPING_RULES.items())


def rule_with_stepper(history_len: int) -> IntegratorMode:
    """The rule of who names a trained stepper, and no rule: the one whose errors do not add up from
    orbit to orbit. What a network says of its past cannot be made symmetric in time.
    """
    return "history" if history_len else "reversible"

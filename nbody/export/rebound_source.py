"""An integrator with its rule as a plugin for REBOUND: one file of C that its user compiles."""

from dataclasses import dataclass

from nbody.config.stepping_rules import METHODS, IntegratorName
from nbody.export.c_source import (
    PARTS,
    Facts,
    amalgam,
    declarations,
    filled,
    weights_in_c,
    widest,
    words_of,
)
from nbody.native.engine import CRITERION_NAMES, CriterionName
from nbody.native.weights import Weights

ENGINE = ("system", "pairs", "path", "steps", *PARTS, "criteria", "rule")


@dataclass(frozen=True)
class PluginRule:
    """Which steps a plugin takes.

    Attributes:
        integrator: whose they are.
        accuracy: to begin with; see `nbody.native.engine.NativeRule`.
        reversible: to begin with, whether they are made symmetric in time.
        weights: of a stepper; None: the criterion's.
    """

    integrator: IntegratorName
    accuracy: float
    reversible: bool = False
    weights: Weights | None = None
    criterion: CriterionName = "fixed"


def rebound_files(rule: PluginRule, facts: Facts) -> dict[str, str]:
    """The plugin's source, by file name."""
    weights = rule.weights
    said = "chosen by a trained stepper" if weights is not None else f"by {rule.criterion}"
    words = {
        **words_of(facts),
        "INTEGRATOR": rule.integrator,
        "RULE": said,
        "WIDEST": "1" if weights is None else str(widest(weights)),
        "PARTS": f"{declarations('state.h')}\n\n{amalgam(ENGINE)}",
        "WEIGHTS": "" if weights is None else weights_in_c(weights),
        "TRAINED": "NULL" if weights is None else "&orrery_trained",
        "METHOD": str(list(METHODS).index(rule.integrator)),
        "CRITERION": f"(orrery_criterion){CRITERION_NAMES.index(rule.criterion)}",
        "ACCURACY": repr(rule.accuracy),
        "REVERSIBLE": str(int(rule.reversible)),
    }
    return {f"{facts.name}_rebound.c": filled("rebound.c", words)}

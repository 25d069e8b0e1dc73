"""An integrator with its rule as a plugin for REBOUND: one file of C that its user compiles."""

from collections.abc import Iterable
from dataclasses import dataclass

from nbody.config.stepping_rules import METHODS, IntegratorName
from nbody.export.c_source import (
    PARTS,
    Facts,
    amalgam,
    declarations,
    filled,
    numbers,
    words_of,
)
from nbody.native.engine import CRITERION_NAMES, CriterionName
from nbody.native.weights import Weights, packed

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
    words = {
        **words_of(facts),
        "PARTS": f"{declarations('state.h')}\n\n{amalgam(ENGINE)}",
        "STEPPER": "0" if rule.weights is None else numbers(packed(rule.weights)),
        "METHOD": str(list(METHODS).index(rule.integrator)),
        "METHODS": _numbered(METHODS),
        "CRITERION": str(CRITERION_NAMES.index(rule.criterion)),
        "CRITERIA": _numbered(CRITERION_NAMES),
        "ACCURACY": repr(rule.accuracy),
        "REVERSIBLE": str(int(rule.reversible)),
    }
    return {f"{facts.name}_rebound.c": filled("rebound.c", words)}


def _numbered(names: Iterable[str]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(names))

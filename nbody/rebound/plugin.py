"""A stepper, or one of our integrators with a criterion, as the integrator of a REBOUND simulation.

The plugin is compiled once, beside the other libraries that are kept, and loaded into REBOUND.
"""

import ctypes
import hashlib
from functools import lru_cache
from importlib.metadata import files
from pathlib import Path
from typing import Any

from nbody.config.stepping_rules import METHODS, IntegratorName
from nbody.durable_file import write_durably
from nbody.errors import NotExportable
from nbody.export.c_source import Facts
from nbody.export.formats import Exported
from nbody.export.rebound_source import PluginRule, rebound_files
from nbody.native.compiler import kept_libraries, shared_library
from nbody.native.engine import CRITERION_NAMES, CriterionName
from nbody.stepper import load_stepper

OLDEST = 5  # major version of REBOUND that has custom integrators
DIGITS = 10  # of a plugin's name


def use(
    simulation: Any,
    stepper: str | Path | None = None,
    *,
    integrator: IntegratorName | None = None,
    criterion: CriterionName | None = None,
    accuracy: float | None = None,
    reversible: bool | None = None,
) -> None:
    """Make a trained stepper, or an integrator of ours with a criterion, a simulation's integrator.

    G, softening, test particles, units and exact finish times are the simulation's own. What can be
    tuned, and what is counted, are fields of `simulation.integrator`: `accuracy`, `reversible`,
    `steps`, `outside`.

    Args:
        simulation: a `rebound.Simulation`.
        stepper: a checkpoint, whose own integrator is used.
        integrator, criterion: instead of a stepper.
        accuracy: threshold of the relative energy error of one step, the one of training where it
            is left out; of a criterion the factor on its time.
        reversible: steps symmetric in time; left out, wherever the integrator is.

    Raises:
        NotExportable, NotCompilable: the stepper cannot be compiled, or REBOUND is not here.
        CompilerMissing, CompilerFailed: nothing can be compiled here; the message says what to do.
        ValueError: neither a stepper nor both of integrator and criterion.
    """
    simulation.integrator = register(
        stepper, integrator=integrator, criterion=criterion, accuracy=accuracy, reversible=reversible
    )


def register(
    stepper: str | Path | None = None,
    *,
    integrator: IntegratorName | None = None,
    criterion: CriterionName | None = None,
    accuracy: float | None = None,
    reversible: bool | None = None,
) -> str:
    """Load the integrator into REBOUND; returns the name that `Simulation.integrator` takes.

    To be called before an archive of such a simulation is opened in another process. Arguments and
    errors are those of `use`.
    """
    rule, title = _rule(stepper, integrator, criterion, accuracy, reversible)
    digest = hashlib.sha256(repr((rule, title)).encode() + _values(rule)).hexdigest()
    name = f"orrery_{digest[:DIGITS]}"
    _load(name, rebound_files(rule, _facts(name, title, rule))[f"{name}_rebound.c"])
    return name


def _rule(
    stepper: str | Path | None,
    integrator: IntegratorName | None,
    criterion: CriterionName | None,
    accuracy: float | None,
    reversible: bool | None,
) -> tuple[PluginRule, str]:
    if stepper is not None:
        if integrator is not None or criterion is not None:
            raise ValueError("give a stepper, or an integrator and a criterion, not both")
        loaded = load_stepper(stepper)
        facts = Facts.of(loaded.config, "orrery", "", None)
        rule, title = Exported(loaded, facts, 1.0).rule, f"Trained stepper {Path(stepper).name}"
    elif integrator in METHODS and criterion in CRITERION_NAMES:
        symmetric = METHODS[integrator].symmetric
        rule = PluginRule(integrator, 0.02, symmetric, criterion=criterion)
        title = f"Orrery's {integrator} by {criterion}"
    else:
        raise ValueError(
            f"give a stepper, or an integrator ({', '.join(METHODS)}) and a criterion "
            f"({', '.join(CRITERION_NAMES)})"
        )
    changes = {"accuracy": accuracy, "reversible": reversible}
    given = {name: value for name, value in changes.items() if value is not None}
    return PluginRule(**{**vars(rule), **given}), title


def _values(rule: PluginRule) -> bytes:
    return b"" if rule.weights is None else rule.weights.values.tobytes()


def _facts(name: str, title: str, rule: PluginRule) -> Facts:
    return Facts(name, title, rule.integrator, rule.accuracy, None, None)


@lru_cache(maxsize=256)
def _load(name: str, source: str) -> None:
    """Compile and load a plugin, once in a process."""
    rebound = _rebound()
    path = kept_libraries() / f"{name}_rebound.c"
    if not path.exists() or path.read_text(encoding="utf-8") != source:
        write_durably(path, lambda file: file.write_text(source, encoding="utf-8"), mode=0o600)
    library = shared_library([path], flags=[f"-I{_header_folder()}"])
    ctypes.CDLL(rebound.clibrebound._name, mode=ctypes.RTLD_GLOBAL)
    getattr(ctypes.CDLL(str(library)), f"{name}_register")()


def _rebound() -> Any:
    try:
        import rebound  # noqa: PLC0415 - not installed unless somebody wants it
    except ModuleNotFoundError as error:
        raise NotExportable("REBOUND is not here: pip install 'orrery[rebound]'") from error
    if int(str(rebound.__version__).partition(".")[0]) < OLDEST:
        raise NotExportable(
            f"REBOUND {rebound.__version__} has no custom integrators: "
            f"pip install 'rebound>={OLDEST}'"
        )
    return rebound


def _header_folder() -> Path:
    """The folder of rebound.h, which comes with the package."""
    for file in files("rebound") or []:
        if file.name == "rebound.h":
            return Path(str(file.locate())).parent
    raise NotExportable("this installation of REBOUND has no rebound.h: pip install rebound")

"""A stepper, or one of our integrators with a criterion, as a REBOUND simulation's integrator.

One plugin for all of them, for REBOUND 5.2 can take no second: it is compiled once, beside the
other libraries that are kept, and loaded into REBOUND. Which integrator, criterion and stepper are
fields of each simulation, and are saved with it.
"""

import ctypes
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
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
from nbody.native.weights import packed
from nbody.stepper import load_stepper

OLDEST = 5  # major version of REBOUND that has custom integrators
NAME = "orrery"  # of the integrator


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
    rule = _rule(stepper, integrator, criterion, accuracy, reversible)
    plugin = register()
    simulation.integrator = NAME
    chosen: Any = getattr(simulation, "integrator")  # noqa: B009 - no longer the name alone
    chosen.method = list(METHODS).index(rule.integrator)
    chosen.criterion = CRITERION_NAMES.index(rule.criterion)
    chosen.accuracy, chosen.reversible = rule.accuracy, int(rule.reversible)
    if rule.weights is not None:
        numbers = packed(rule.weights)
        row = numbers.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
        if not plugin.orrery_set_stepper(ctypes.c_void_p(chosen.state), row, len(numbers)):
            raise MemoryError("no memory for the stepper's weights")


@lru_cache(maxsize=1)
def register() -> Any:
    """Load the plugin into REBOUND, once in a process; `use` does it by itself.

    To be called before an archive of a simulation with such an integrator is opened in another
    process: integrator, stepper and what the last step left are in the archive.

    Raises:
        NotExportable: REBOUND is not here, or too old.
        CompilerMissing, CompilerFailed
    """
    rebound = _rebound()
    facts = Facts(NAME, "Orrery's integrators, criteria and trained steppers", "", 0.0, None, None)
    source = rebound_files(PluginRule("hermite4", 0.02, criterion="Aarseth 1985"), facts)
    path = kept_libraries() / f"{NAME}_rebound.c"
    (text,) = source.values()
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_durably(path, lambda file: file.write_text(text, encoding="utf-8"), mode=0o600)
    library = shared_library([path], flags=[f"-I{_header_folder()}"])
    ctypes.CDLL(rebound.clibrebound._name, mode=ctypes.RTLD_GLOBAL)
    plugin = ctypes.CDLL(str(library))
    plugin.orrery_set_stepper.restype = ctypes.c_bool
    plugin.orrery_set_stepper.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_double),
        ctypes.c_size_t,
    ]
    plugin.orrery_register()
    return plugin


def _rule(
    stepper: str | Path | None,
    integrator: IntegratorName | None,
    criterion: CriterionName | None,
    accuracy: float | None,
    reversible: bool | None,
) -> PluginRule:
    if stepper is not None:
        if integrator is not None or criterion is not None:
            raise ValueError("give a stepper, or an integrator and a criterion, not both")
        loaded = load_stepper(stepper)
        facts = Facts.of(loaded.config, NAME, "", None)
        rule = Exported(loaded, facts, 1.0).rule
    elif integrator in METHODS and criterion in CRITERION_NAMES:
        symmetric = METHODS[integrator].symmetric
        rule = PluginRule(integrator, 0.02, symmetric, criterion=criterion)
    else:
        raise ValueError(
            f"give a stepper, or an integrator ({', '.join(METHODS)}) and a criterion "
            f"({', '.join(CRITERION_NAMES)})"
        )
    return replace(
        rule,
        accuracy=rule.accuracy if accuracy is None else accuracy,
        reversible=rule.reversible if reversible is None else reversible,
    )


def _rebound() -> Any:
    try:
        rebound: Any = import_module("rebound")
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

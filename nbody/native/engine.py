"""Whole runs in C: a system and a rule in, where it ends and what it kept out.

The engine's arithmetic is `nbody.integrators`', in float64 and three dimensions; its time is that
of one thread. Other threads may call it at once.

Legend: N particles.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from nbody.config.stepping_rules import METHODS, IntegratorName
from nbody.native.compiler import shared_library
from nbody.native.weights import COMPILED, COMPILED_ACTIVATIONS, Weights

SOURCES = Path(__file__).with_name("c")
CriterionName = Literal[
    "fixed",
    "r/v",
    "free fall",
    "free fall (r/a)^(1/3)",
    "Aarseth 1985",
    "Pham, Rein & Spiegel 2024",
    "leading error, no network",
]
CRITERION_NAMES: tuple[CriterionName, ...] = get_args(CriterionName)  # as orrery_criterion
End = Literal["done", "stands still", "too many steps", "lost"]
ENDS: tuple[End, ...] = get_args(End)  # as orrery_end
MOST_STEPS = 2**62
STATE_VECTORS = (
    *("mass", "position", "velocity"),
    *("acceleration", "jerk", "snap", "crackle", "fourth"),
)

_doubles = ctypes.POINTER(ctypes.c_double)
_ints = ctypes.POINTER(ctypes.c_int)


class _Network(ctypes.Structure):
    _fields_ = (
        ("inputs", ctypes.c_int),
        ("layers", ctypes.c_int),
        ("width", _ints),
        ("waves", _doubles),
        ("embedding", ctypes.c_int),
        ("activation", ctypes.c_int),
        ("weights", _doubles),
        ("envelope", _doubles),
    )


class _State(ctypes.Structure):
    _fields_ = (
        ("n", ctypes.c_size_t),
        *((name, _doubles) for name in STATE_VECTORS),
        ("softening", ctypes.c_double),
        ("G", ctypes.c_double),
        ("energy", ctypes.c_double),
    )


class _Stepper(ctypes.Structure):
    _fields_ = (
        ("features", ctypes.c_int),
        ("network", _Network),
        ("calibration", ctypes.c_double),
    )


class _Rule(ctypes.Structure):
    _fields_ = (
        ("stepper", ctypes.POINTER(_Stepper)),
        ("criterion", ctypes.c_int),
        ("accuracy", ctypes.c_double),
        ("reversible", ctypes.c_bool),
    )


class _Limits(ctypes.Structure):
    _fields_ = (
        ("span", ctypes.c_double),
        ("most_steps", ctypes.c_long),
        ("lost_at", ctypes.c_double),
        ("watched", ctypes.c_bool),
    )


class _Outcome(ctypes.Structure):
    _fields_ = (
        ("end", ctypes.c_int),
        ("steps", ctypes.c_long),
        ("outside", ctypes.c_long),
        ("time", ctypes.c_double),
        ("largest_error", ctypes.c_double),
        ("last_error", ctypes.c_double),
    )


@dataclass(frozen=True)
class NativeRule:
    """Which step each state gets.

    Attributes:
        accuracy: factor on a criterion's time; for a stepper and the leading error, the threshold.
        criterion: where no stepper is given.
        stepper: the weights of one.
        reversible: steps are made symmetric in time.
    """

    accuracy: float
    criterion: CriterionName = "fixed"
    stepper: Weights | None = None
    reversible: bool = False

    def in_c(self) -> _Rule:
        """As C reads it; what it points to lives as long as it does."""
        rule = _Rule(None, CRITERION_NAMES.index(self.criterion), self.accuracy, self.reversible)
        if self.stepper is not None:
            rule.stepper = ctypes.pointer(_stepper(self.stepper))
        return rule


@dataclass(frozen=True)
class NativeRun:
    """Where a run ended, and what it kept.

    Attributes:
        end: `done`, or why not.
        passes: over all pairs, in its steps.
        outside: states unlike those that the stepper was trained on.
        time: that it covered.
        largest_error, last_error: of the energy, relative to that at the start (see
            `nbody.gravity.invariants.Energies.scale`). The largest is of every step where the run
            was watched, else of every 256th.
        position, velocity: (N, 3) at the end.
    """

    end: End
    steps: int
    passes: int
    outside: int
    time: float
    largest_error: float
    last_error: float
    position: Float[np.ndarray, "N 3"]
    velocity: Float[np.ndarray, "N 3"]


@dataclass(frozen=True)
class NativeSystem:
    """Particles in space, G = 1: masses (N,), positions and velocities (N, 3)."""

    mass: Float[np.ndarray, " N"]
    position: Float[np.ndarray, "N 3"]
    velocity: Float[np.ndarray, "N 3"]
    softening: float = 0.0


def in_space(vectors: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N 3"]:
    """Vectors of a plane, or of space, in space."""
    return np.pad(vectors, ((0, 0), (0, 3 - vectors.shape[1])))


def run_natively(
    system: NativeSystem,
    integrator: IntegratorName,
    rule: NativeRule,
    span: float,
    *,
    watched: bool = True,
    most_steps: int = MOST_STEPS,
    lost_at: float = 1.0,
) -> NativeRun:
    """Integrate a system for a time.

    Args:
        watched: look at the energy after every step; costs a pass over the pairs each.
        lost_at: a relative energy error at which the run ends.

    Raises:
        CompilerMissing, CompilerFailed: the engine cannot be made here.
    """
    position, velocity = _copied(system.position), _copied(system.velocity)
    mass = np.ascontiguousarray(system.mass, dtype=np.float64)
    room = np.empty(_library().orrery_room(len(mass)))
    outcome, limits = _Outcome(), _Limits(span, most_steps, lost_at, watched)
    integrators = list(METHODS)
    _library().orrery_integrate(
        len(mass),
        _pointer(mass),
        system.softening,
        _pointer(position),
        _pointer(velocity),
        integrators.index(integrator),
        ctypes.byref(rule.in_c()),
        ctypes.byref(limits),
        _pointer(room),
        ctypes.byref(outcome),
    )
    return NativeRun(
        end=ENDS[outcome.end],
        steps=outcome.steps,
        passes=outcome.steps * METHODS[integrator].passes,
        outside=outcome.outside,
        time=outcome.time,
        largest_error=outcome.largest_error,
        last_error=outcome.last_error,
        position=position,
        velocity=velocity,
    )


def repeat_step(
    system: NativeSystem, integrator: IntegratorName, dt: float, steps: int
) -> NativeSystem:
    """A system after so many steps of dt."""
    position, velocity = _copied(system.position), _copied(system.velocity)
    mass = np.ascontiguousarray(system.mass, dtype=np.float64)
    room = np.empty(_library().orrery_room(len(mass)))
    _library().orrery_repeat(
        len(mass),
        _pointer(mass),
        system.softening,
        _pointer(position),
        _pointer(velocity),
        list(METHODS).index(integrator),
        dt,
        steps,
        _pointer(room),
    )
    return NativeSystem(mass, position, velocity, system.softening)


@dataclass(frozen=True)
class NativeState:
    """What a stepper is asked about: a system, the energy that errors are relative to, and what a
    Hermite step left behind, (5, N, 3): accelerations and their first four derivatives."""

    system: NativeSystem
    energy: float
    path: Float[np.ndarray, "5 N 3"] | None = None
    G: float = 1.0


def ask_natively(
    weights: Weights, state: NativeState, threshold: float, *, even: bool = False
) -> tuple[float, bool]:
    """A stepper's step, and whether it knows such states.

    Args:
        even: the step that is the same with time running backward.
    """
    system = state.system
    count = len(system.mass)
    path = np.zeros((5, count, 3)) if state.path is None else state.path
    vectors = (system.mass, system.position, system.velocity, *path)
    arrays = {n: _array(v) for n, v in zip(STATE_VECTORS, vectors, strict=True)}
    asked = _State(n=count, **arrays, softening=system.softening, G=state.G, energy=state.energy)
    outside = ctypes.c_bool(False)
    stepper = _stepper(weights)
    function = _library().orrery_ask_even if even else _library().orrery_ask
    dt = function(ctypes.byref(stepper), ctypes.byref(asked), threshold, ctypes.byref(outside))
    return dt, not outside.value


@dataclass(frozen=True)
class CallTimes:
    """Seconds of one pass over the pairs, of one question to a rule, and of one step."""

    one_pass: float
    question: float
    step: float


def time_calls(
    system: NativeSystem, integrator: IntegratorName, rule: NativeRule, calls: int, rounds: int = 5
) -> CallTimes:
    """The fastest of some rounds of calls each."""
    mass = np.ascontiguousarray(system.mass, dtype=np.float64)
    room = np.empty(_library().orrery_room(len(mass)))
    seconds = np.empty(3)
    position, velocity = _copied(system.position), _copied(system.velocity)
    _library().orrery_time_calls(
        len(mass),
        _pointer(mass),
        system.softening,
        _pointer(position),
        _pointer(velocity),
        list(METHODS).index(integrator),
        ctypes.byref(rule.in_c()),
        calls,
        rounds,
        _pointer(room),
        _pointer(seconds),
    )
    return CallTimes(*seconds.tolist())


def _copied(vectors: np.ndarray) -> np.ndarray:
    return np.array(vectors, dtype=np.float64, order="C")


def _pointer(array: np.ndarray) -> Any:
    return array.ctypes.data_as(_doubles)


def _array(values: np.ndarray | None) -> Any:
    """A pointer to values, or to nothing; a structure that it is put into keeps them alive."""
    if values is None:
        return None
    numbers = np.ascontiguousarray(values, dtype=np.float64).ravel()
    return ctypes.cast((ctypes.c_double * len(numbers))(*numbers), _doubles)


def _stepper(weights: Weights) -> _Stepper:
    widths = (ctypes.c_int * len(weights.widths))(*weights.widths)
    network = _Network(
        inputs=weights.inputs,
        layers=len(weights.widths),
        width=ctypes.cast(widths, _ints),
        waves=_array(weights.waves),
        embedding=0 if weights.waves is None else 2 * len(weights.waves),
        activation=COMPILED_ACTIVATIONS.index(weights.activation),
        weights=_array(weights.values),
        envelope=_array(weights.envelope),
    )
    return _Stepper(COMPILED.index(weights.features), network, weights.calibration)


@lru_cache(maxsize=1)
def _library() -> Any:
    """The engine, compiled at the first call."""
    sources, headers = sorted(SOURCES.glob("*.c")), sorted(SOURCES.glob("*.h"))
    library = ctypes.CDLL(str(shared_library(sources, headers=headers)))
    size, number = ctypes.c_size_t, ctypes.c_double
    system: list[Any] = [size, _doubles, number, _doubles, _doubles, ctypes.c_int]
    rule, limits = ctypes.POINTER(_Rule), ctypes.POINTER(_Limits)
    asks: list[Any] = [ctypes.POINTER(_Stepper), ctypes.POINTER(_State), number]
    asks.append(ctypes.POINTER(ctypes.c_bool))
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "orrery_room": (size, [size]),
        "orrery_integrate": (
            ctypes.c_int,
            [*system, rule, limits, _doubles, ctypes.POINTER(_Outcome)],
        ),
        "orrery_repeat": (None, [*system, number, ctypes.c_long, _doubles]),
        **dict.fromkeys(("orrery_ask", "orrery_ask_even"), (number, asks)),
        "orrery_time_calls": (
            None,
            [*system, rule, ctypes.c_long, ctypes.c_int, _doubles, _doubles],
        ),
    }
    for name, (result, arguments) in signatures.items():
        function: Callable[..., Any] = getattr(library, name)
        function.restype, function.argtypes = result, arguments  # pyright: ignore[reportFunctionMemberAccess]
    return library

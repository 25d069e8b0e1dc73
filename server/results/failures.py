"""Where a stepper fails: the held-out states that violate, and the training that includes them."""

from typing import Any

from nbody.config.sections import MOST_HARD_ROWS
from server.results.errors import NothingToShow
from server.results.run import Json, Run


def violations(run: Run) -> list[Json]:
    """The held-out states that violate, the worst first: `system`, `state`, `dt`, `dt_star`,
    `energy_error`, `threshold`, of two bodies `eccentricity`, and the state's `rows`.

    Raises:
        NothingToShow: the job has no scores with held-out states.
    """
    if (look := run.held_out) is None and run.job["status"] != "succeeded":
        raise NothingToShow(f"{run.title} is {run.job['status']}: it has no scores")
    if look is None:
        raise NothingToShow(
            f"{run.title} has no held-out states: it is no training or evaluation that was scored"
        )
    found = [_state(orbit, k) for orbit in look["orbits"] for k in _violating(orbit)]
    return sorted(found, key=lambda state: state["energy_error"] / state["threshold"], reverse=True)


def hard_systems(run: Run) -> list[list[list[float]]]:
    """The same as a config's `hard_systems`, as many of the worst as fit.

    Raises:
        NothingToShow: the job has no such states, or none of them violates.
    """
    states = violations(run)
    if not states:
        raise NothingToShow(f"none of the steps of {run.title} violates: nothing to train on")
    return [state["rows"] for state in states[: MOST_HARD_ROWS // len(states[0]["rows"])]]


def training_on(run: Run, config: Json) -> dict[str, Any]:
    """What changes in a config that trains also on what failed: its population is drawn afresh."""
    fresh = {"resample_each_epoch": True, "reset_particle_each_epoch": True}
    return {"hard_systems": hard_systems(run), **({} if config["lifetime"] else fresh)}


def _violating(orbit: Json) -> list[int]:
    errors = enumerate(orbit["energy_error"])
    return [k for k, error in errors if error is None or error >= orbit["threshold"]]


def _state(orbit: Json, k: int) -> Json:
    error = orbit["energy_error"][k]
    bodies = zip(orbit["mass"], orbit["position"][k], orbit["velocity"][k], strict=True)
    alone = {key: orbit[key] for key in ("system", "threshold", "eccentricity") if key in orbit}
    return {
        **alone,
        "state": k,
        "dt": orbit["dt"][k],
        "dt_star": orbit["dt_star"][k],
        "energy_error": float("inf") if error is None else error,
        "rows": [[mass, *place, *speed] for mass, place, speed in bodies],
    }

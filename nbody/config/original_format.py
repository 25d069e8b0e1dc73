"""Reads the configuration of AITimeStepper, the research code that Orrery grew out of.

Its TOML files have shared top-level keys and `[train]` and `[simulate]` sections, each of which
speaks for its own half; its checkpoints hold the same keys flat. Both are translated here, at the
border, into the fields of our Config. Where they are silent, what holds is the original's default.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

Half = Literal["train", "simulate"]

SECTIONS: tuple[Half, Half] = ("train", "simulate")
RENAMED = {"replay_batch": "replay_batch_size", "eps": "eta"}
# Known to the original and without a meaning here: kept in `extra`, so that nothing is lost.
WITHOUT_MEANING = frozenset(
    [
        "adam_epochs",
        "adam_lr",
        "debug_every",
        "debug_replay_every",
        "dt_bound",
        "L_lower",
        "L_upper",
        "lbfgs_history_size",
        "lbfgs_line_search",
        "lbfgs_lr",
        "lbfgs_max_iter",
        "movie",
        "movie_dir",
        "movie_dpi",
        "movie_fps",
        "movie_max_frames",
        "part2_log_every",
        "rel_loss_bound",
        "retrain_log_every",
        "optuna",
        "wandb_entity",
    ]
)
# Kept in `extra`, too: who simulates looks at them there.
OF_SIMULATIONS = frozenset(["model_path", "multi_orbit_sim", "use_train_ic"])
# Sentinels of the original: -1 (or a value that is not positive) says "not set".
NOT_SET_UNLESS_POSITIVE = ("dt", "steps", "duration")
# What the original does where its files are silent, and ours does something else.
ORIGINAL_DEFAULTS = {
    "feature_type": "delta_mag",
    "dt_head": "softplus",
    "loss": "band_failing",
    "n_steps": 10,
    "max_retrain_steps": 1000,
}
DEFAULT_ORBITS = 8


def is_original(data: Mapping[str, Any]) -> bool:
    """Whether `data` was written for AITimeStepper."""
    return (
        any(isinstance(data.get(section), dict) for section in SECTIONS)
        or not (WITHOUT_MEANING | OF_SIMULATIONS).isdisjoint(data)
        or not RENAMED.keys().isdisjoint(data)
    )


def means_basic(data: Mapping[str, Any]) -> bool:
    """Whether `data` asks for `delta_mag` without history, which the original reads as `basic`."""
    return data.get("feature_type") == "delta_mag" and not data.get("history_len")


def of_half(data: Mapping[str, Any], half: Half) -> dict[str, Any]:
    """The shared keys and those of one section; the other section is kept in `extra`."""
    shared = {key: value for key, value in data.items() if key not in SECTIONS}
    others = {s: data[s] for s in SECTIONS if s != half and isinstance(data.get(s), dict)}
    if others:
        shared["extra"] = {**(shared.get("extra") or {}), **_plain(others)}
    return {**shared, **(data.get(half) or {})}


def translate(
    data: Mapping[str, Any], folder: Path | None = None, half: Half = "train"
) -> dict[str, Any]:
    """The fields of our Config that say what `data` said.

    Args:
        data: the original's keys, with or without sections.
        folder: where relative initial-condition files are looked for.
        half: whose section counts.

    Raises:
        InvalidInitialConditions: the file of initial conditions cannot be read.
    """
    flat = of_half(data, half)
    ic_path = flat.pop("ic_path", None)
    given = flat.keys() & {"particles", "initial_conditions"}
    if half == "simulate":
        flat.setdefault("integrator_mode", "analytic")
    fields = translate_flat(flat)
    if ic_path is not None and not given:
        rows = _rows(Path(ic_path), folder or Path())
        fields |= {"initial_conditions": "inline", "particles": rows}
        fields.pop("num_particles", None)  # what the rows say wins, as in the original
        fields.pop("dim", None)
    return fields


def translate_flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same for keys without sections that name no file."""
    flat = {key: value for key, value in data.items() if value is not None}
    extra = dict(flat.pop("extra", {}))
    dropped = sorted(WITHOUT_MEANING & flat.keys())
    for key in (*dropped, *(OF_SIMULATIONS & flat.keys())):
        extra[key] = flat.pop(key)
    if dropped:
        warnings.warn(f"kept in 'extra' and otherwise ignored: {', '.join(dropped)}", stacklevel=3)
    for old, new in RENAMED.items():
        if old in flat:
            flat.setdefault(new, flat.pop(old))
    for key in NOT_SET_UNLESS_POSITIVE:
        if key in flat and not flat[key] > 0:
            del flat[key]
    fields = {"initial_conditions": _drawn(flat, extra), **ORIGINAL_DEFAULTS, **flat}
    fields["max_retrain_steps"] = max(0, int(fields["max_retrain_steps"]))  # it writes 1e6
    if means_basic(fields):
        warnings.warn(
            "feature_type 'delta_mag' without history means 'basic' in the original; using 'basic'",
            stacklevel=3,
        )
        fields["feature_type"] = "basic"
    return fields | ({"extra": _plain(extra)} if extra else {})


def _drawn(flat: Mapping[str, Any], extra: Mapping[str, Any]) -> str:
    """Where the original names no file it draws Kepler orbits, or one system of many particles."""
    simulates = "multi_orbit_sim" in extra or "use_train_ic" in extra
    several = extra.get("multi_orbit_sim", not simulates)
    orbits = flat.get("num_orbits", DEFAULT_ORBITS) > 1 or bool(flat.get("stop_at_period"))
    pair = flat.get("num_particles", 2) == 2
    return "kepler_ensemble" if several and orbits and pair else "random"


def _plain(values: Any) -> Any:
    """What of the values is plain JSON; the rest as text."""
    return json.loads(json.dumps(values, default=str))


def _rows(path: Path, folder: Path) -> list[list[float]]:
    """Initial-condition files travel in the payload: the host that trains may not have them."""
    from nbody.config.particle_file import read_particles  # noqa: PLC0415 - numpy only where a file is read

    return read_particles(path if path.is_absolute() else folder / path)

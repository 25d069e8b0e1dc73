"""Reads the configuration of AITimeStepper, the research code that Orrery grew out of.

Its TOML files have shared top-level keys and `[train]` and `[simulate]` sections; its checkpoints
hold the same keys flat. Both are translated here, at the border, into the fields of our Config.
"""

import warnings
from pathlib import Path
from typing import Any

SECTIONS = ("train", "simulate")
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
        "model_path",
        "movie",
        "movie_dir",
        "movie_dpi",
        "movie_fps",
        "movie_max_frames",
        "multi_orbit_sim",
        "part2_log_every",
        "rel_loss_bound",
        "retrain_log_every",
        "use_train_ic",
        "optuna",
        "wandb_entity",
    ]
)
# Sentinels of the original: -1 (or a value that is not positive) says "not set".
NOT_SET_UNLESS_POSITIVE = ("dt", "steps", "duration", "max_retrain_steps")
SIMULATION_FIELDS = frozenset(("integrator_mode", "dt", "steps", "duration", "Nperiod", "eps"))
# What the original does where its files are silent.
ORIGINAL_DEFAULTS = {
    "feature_type": "delta_mag",
    "dt_head": "softplus",
    "loss": "band_failing",
    "initial_conditions": "random",
}


def is_original(data: dict[str, Any]) -> bool:
    """Whether `data` was written for AITimeStepper."""
    return (
        any(isinstance(data.get(section), dict) for section in SECTIONS)
        or not WITHOUT_MEANING.isdisjoint(data)
        or not RENAMED.keys().isdisjoint(data)
    )


def means_basic(data: dict[str, Any]) -> bool:
    """Whether `data` asks for `delta_mag` without history, which the original reads as `basic`."""
    return data.get("feature_type") == "delta_mag" and not data.get("history_len")


def translate(data: dict[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """The fields of our Config that say what `data` said.

    Args:
        data: the original's keys, with or without sections.
        folder: where relative initial-condition files are looked for.
    """
    flat = _flatten(data)
    extra = dict(flat.pop("extra", None) or {})
    ic_path = flat.pop("ic_path", None)
    dropped = sorted(WITHOUT_MEANING & flat.keys())
    for key in dropped:
        extra[key] = flat.pop(key)
    if dropped:
        warnings.warn(f"kept in 'extra' and otherwise ignored: {', '.join(dropped)}", stacklevel=3)
    for old, new in RENAMED.items():
        if old in flat:
            flat.setdefault(new, flat.pop(old))
    for key in NOT_SET_UNLESS_POSITIVE:
        value = flat.get(key)
        if value is not None and not value > 0:
            del flat[key]
    if "max_retrain_steps" in flat:  # the original writes 1e6
        flat["max_retrain_steps"] = int(flat["max_retrain_steps"])
    fields = {**ORIGINAL_DEFAULTS, **flat}
    if means_basic(fields):
        warnings.warn(
            "feature_type 'delta_mag' without history means 'basic' in the original; using 'basic'",
            stacklevel=3,
        )
        fields["feature_type"] = "basic"
    if ic_path is not None:
        fields |= _inline(Path(ic_path), folder or Path())
    return fields | ({"extra": extra} if extra else {})


def _flatten(data: dict[str, Any]) -> dict[str, Any]:
    """Sections over shared keys: `[train]` first, `[simulate]` for what only simulations use."""
    shared = {key: value for key, value in data.items() if key not in SECTIONS}
    train, simulate = (dict(data.get(section) or {}) for section in SECTIONS)
    only_simulation = {
        key: value
        for key, value in simulate.items()
        if key in SIMULATION_FIELDS or (key not in train and key not in shared)
    }
    return {**shared, **train, **only_simulation}


def _inline(path: Path, folder: Path) -> dict[str, Any]:
    """Initial-condition files travel in the payload: the host that trains may not have them."""
    from nbody.config.particle_file import read_particles  # noqa: PLC0415 - numpy only where a file is read

    rows = read_particles(path if path.is_absolute() else folder / path)
    return {"initial_conditions": "inline", "particles": rows, "dim": (len(rows[0]) - 1) // 2}

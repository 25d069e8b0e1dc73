"""The configs of the first run on a GPU: small, one for each thing that a run can be."""

from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[3] / "data"


BASE: dict[str, Any] = {
    "num_orbits": 8,
    "steps_per_epoch": 5,
    "epochs": 3,
    "replay_steps": 24,
    "replay_batch_size": 16,
    "lr": 2.0**-5,
    "hidden_dims": [16, 16],
    "dropout": 0.0,
    "seed": 3,
    "evaluation_orbits": 0,
}
PLUMMER = {"initial_conditions": "plummer", "num_particles": 16, "num_systems": 8}
LOSSES: dict[str, dict[str, Any]] = {
    "oracle": {},
    "dropout": {"dropout": 0.2},
    "band": {"loss": "band"},
    "band_failing": {"loss": "band_failing"},
    "capped": {"max_retrain_steps": 2, "energy_threshold": 1e-7},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "64x64": {"hidden_dims": [64, 64]},
    "demo": {"hidden_dims": [128, 128], "activation": "silu"},
    "demo_float32": {"hidden_dims": [128, 128], "activation": "silu", "network_dtype": "float32"},
    "default": {"hidden_dims": [200, 1000, 1000, 200], "dropout": 0.2},
}
KINDS: dict[str, dict[str, Any]] = {
    "dimensionless": {"feature_type": "dimensionless"},
    "rich": {"feature_type": "rich", "dt_head": "softplus", "normalize_inputs": True},
    "history": {"feature_type": "dimensionless", "history_len": 2},
    "series_history": {"history_len": 2},
    "delta_mag": {"feature_type": "delta_mag", "history_len": 2, "dt_head": "softplus"},
    "period": {"stop_at_period": True, "steps_per_epoch": 40},
    "n_steps": {"n_steps": 3},
    "field": {"external_field_mass": 0.1, "external_field_position": [5.0, 0.0]},
    "lifetimes": {"reset_particle_each_epoch": False, "lifetime": 2.0},
    "adamw": {"optimizer": "adamw"},
    "three": {"initial_conditions": "figure_eight_family", "num_systems": 8},
    "thresholds": {"energy_threshold_max": 1e-2},
    "fourier": {"fourier_scale": 1.0},
    "float32": {"dtype": "float32"},
    "float32_network": {"network_dtype": "float32"},
    "tf32": {"network_dtype": "float32", "tf32": True},
    "plummer_16": {**PLUMMER, "max_retrain_steps": 8},
    "each_body": {"initial_conditions": "kozai_triple", "num_systems": 4, "max_retrain_steps": 8},
    "sgd": {"optimizer": "sgd", "lr": 1e-3},
    "resample": {"resample_each_epoch": True},
    "anomaly": {"detect_anomaly": True, "epochs": 2},
}
ONLY_ON_A_GPU: dict[str, dict[str, Any]] = {
    "wide_batch": {"num_orbits": 2048, "replay_batch_size": 16384, "steps_per_epoch": 9},
    "600_bodies": {
        "initial_conditions": "plummer",
        "num_particles": 600,
        "num_systems": 2,
        "loss": "band",
        "max_retrain_steps": 4,
        "feature_type": "dimensionless",
        "replay_steps": 12,
    },
}
NOT_CAPTURED = {"sgd", "anomaly"}

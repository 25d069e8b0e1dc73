"""The sections of a Config, each field beside its range, unit and description.

Lengths, times and masses are in units in which G is the field of that name. The sections are plain
mix-ins: on the wire a Config is flat.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, JsonValue

from nbody.config.field_marks import Mark
from nbody.config.stepping_rules import IntegratorMode, IntegratorName, describe_rules
from nbody.config.systems import IC_FILES, InitialConditions
from nbody.config.units import UnitSystem

Activation = Literal["relu", "tanh", "sigmoid", "silu", "gelu", "isru"]
FeatureType = Literal[
    "basic", "rich", "delta_mag", "dimensionless", "error_series", "leading_error"
]

Positive = Annotated[float, Field(gt=0, le=1e300, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=1e300, allow_inf_nan=False)]
Real = Annotated[float, Field(ge=-1e300, le=1e300, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]

_SAVE_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def check_save_name(name: str) -> str:
    """A save_name is a label and a folder: one plain path component."""
    if not _SAVE_NAME.fullmatch(name) or name in {".", ".."}:
        raise ValueError("use 1 to 64 letters, digits, '.', '_' or '-', and not '.' or '..'")
    return name


def _check_ic_path(path: str) -> str:
    parts = path.replace("\\", "/").split("/")
    hidden = any(part.startswith(".") for part in parts)
    if path.startswith("/") or hidden or not path.isprintable() or ":" in parts[0]:
        raise ValueError("give a path relative to the data folder, without '..' or hidden names")
    if not path.endswith(IC_FILES):
        raise ValueError(f"give a file of one of {', '.join(IC_FILES)}")
    return path


def _check_row(row: list[float]) -> list[float]:
    if len(row) not in {5, 7}:
        raise ValueError("a particle is [m, x, y, vx, vy] or [m, x, y, z, vx, vy, vz]")
    if row[0] < 0:
        raise ValueError("a particle's mass must be >= 0")
    return row


SEVERAL = Field(strict=False, min_length=1, max_length=16)
Place = Annotated[list[Real], Field(strict=False, min_length=2, max_length=3)]
Row = Annotated[list[Real], Field(fail_fast=True), AfterValidator(_check_row)]


Particles = Annotated[list[Row], Field(fail_fast=True)]
System = Annotated[list[Row], Field(fail_fast=True, min_length=2)]
MOST_HARD_ROWS = 2048  # of all hard systems together: they travel with the config


def _check_device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda|cuda:\d{1,3}", device):
        raise ValueError("use 'auto', 'cpu', 'cuda' or 'cuda:N'")
    return device


def _check_extra(value: JsonValue, depth: int = 0) -> JsonValue:
    """Free-form data must stay plain, finite JSON of bounded depth."""
    if depth > 8:
        raise ValueError("nested deeper than 8 levels")
    if isinstance(value, dict):
        for key, item in value.items():
            if not key.isprintable():
                raise ValueError("keys must be printable text")
            _check_extra(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_extra(item, depth + 1)
    elif isinstance(value, float) and not abs(value) < float("inf"):
        raise ValueError("numbers must be finite")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError("integers must fit in 64 bits")
    return value


def _check_extra_dict(value: dict[str, Any]) -> dict[str, Any]:
    _check_extra(value)
    return value


class OptimizationSection(BaseModel):
    epochs: Annotated[int, Mark.CHANGEABLE] = Field(
        default=1000, ge=1, le=10**8, description="Epochs to train."
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field(default="adam", description="Optimizer.")
    lr: Annotated[Positive, Mark.CHANGEABLE] = Field(default=1e-4, description="Learning rate.")
    lr_schedule: Annotated[Literal["constant", "cosine"], Mark.CHANGEABLE] = Field(
        default="constant",
        description="How the learning rate goes over the epochs: constant, or a half cosine from "
        "lr down to lr/100.",
    )
    weight_decay: Annotated[NonNegative, Mark.CHANGEABLE] = Field(
        default=1e-2, description="Weight decay of the optimizer."
    )
    momentum: Annotated[float, Mark.CHANGEABLE] = Field(
        default=0.9, ge=0, lt=1, description="Momentum; only SGD uses it."
    )
    adam_beta2: Annotated[float, Mark.CHANGEABLE] = Field(
        default=0.999,
        ge=0,
        lt=1,
        description="Decay of the mean of squared gradients in Adam and AdamW. After a quiet time "
        "0.99 makes a smaller step of a large gradient than 0.999 does.",
    )
    seed: int | None = Field(
        default=None, ge=0, lt=2**63, description="Seed of every random draw; null draws one."
    )
    replay_steps: Annotated[int, Mark.CHANGEABLE] = Field(
        default=1000, ge=0, le=10**8, description="Most iterations of Part 2."
    )
    replay_batch_size: Annotated[int, Mark.CHANGEABLE] = Field(
        default=512,
        ge=1,
        le=2**22,
        description="Minibatch of Part 2, capped at the trajectory length.",
    )
    min_replay_size: Annotated[int, Mark.CHANGEABLE] = Field(
        default=2,
        ge=1,
        le=2**31,
        description="Part 2 is skipped for trajectories shorter than this.",
    )


class GateSection(BaseModel):
    energy_threshold: Annotated[float, Mark.CHANGEABLE] = Field(
        default=2e-4,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="Accept/reject gate on the relative energy error of one step; "
        "in a simulation also what the stepper is asked for.",
    )
    energy_threshold_max: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="Where given, every system has a gate of its own, log-uniform between "
        "energy_threshold and this: one network for a range of thresholds.",
    )
    gate: Literal["auto", "energy", "each"] = Field(
        default="auto",
        description="What the gate looks at: energy, the total one alone; each, the orbit of every "
        "body about the neighbour that dominates it, too, so that light bodies count; auto: each "
        "where the lightest mass is under a tenth of the heaviest and more than two bodies, or a "
        "perturber, or a massless body are there.",
    )
    steps_per_epoch: Annotated[int, Mark.CHANGEABLE] = Field(
        default=1, ge=1, le=10**6, description="Accepted steps per orbit in Part 1 of an epoch."
    )
    max_retrain_steps: Annotated[int, Mark.CHANGEABLE] = Field(
        default=0,
        ge=0,
        le=10**9,
        description="Cap on retraining for one step in Part 1; 0 means none: train until it "
        "passes. At the cap the step is halved until it passes the gate.",
    )
    n_steps: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Steps of the predicted dt per prediction; energy is checked after each.",
    )
    integrator: Annotated[IntegratorName, Mark.LATER] = Field(
        default="leapfrog2",
        description="Whose steps are taken, in training and simulations: leapfrogs of order 2 to "
        "8, symmetric in time, of 1, 3, 9 and 17 force passes a step; or the Hermite scheme of "
        "order 4, whose passes yield the jerk, too: 1 a step, or 2 or 3 (pec2, pec3). A network is "
        "for the integrator that it was trained with.",
    )
    reset_particle_each_epoch: bool = Field(
        default=True,
        description="Start every epoch from the initial condition, not the evolved state.",
    )
    resample_each_epoch: Annotated[bool, Mark.OF_A_POPULATION, Mark.OF_TRAINING_ALONE] = Field(
        default=False,
        description="Draw fresh initial conditions each epoch (random populations only).",
    )
    lifetime: Annotated[Positive | None, Mark.OF_A_POPULATION, Mark.OF_TRAINING_ALONE] = Field(
        default=None,
        description="With reset_particle_each_epoch false: a system that has evolved for this many "
        "crossing times M^2.5/(2|E|)^1.5 is replaced by a fresh draw.",
    )
    stop_at_period: bool = Field(
        default=False, description="An orbit collects no more once it has covered its own period."
    )


class LossSection(BaseModel):
    loss: Annotated[Literal["oracle", "band", "band_failing"], Mark.CHANGEABLE] = Field(
        default="oracle",
        description="oracle: quantile loss on ln(dt/dt*) against the largest step before the "
        "first crossing; band: energy error into [E_lower, E_upper] on all samples; "
        "band_failing: the same on failing samples only.",
    )
    E_lower: Annotated[Positive, Mark.CHANGEABLE] = Field(
        default=1e-6, description="Lower end of the band, relative energy error."
    )
    E_upper: Annotated[Positive, Mark.CHANGEABLE] = Field(
        default=1e-4, description="Upper end of the band, relative energy error."
    )
    oracle_quantile: Annotated[Probability, Mark.CHANGEABLE] = Field(
        default=0.05, description="Share of samples that the oracle loss lets exceed dt*."
    )
    min_efficiency: Annotated[float, Mark.CHANGEABLE] = Field(
        default=0.99,
        ge=0,
        le=1,
        description="Part 2 with the oracle loss does not stop early before the mean of "
        "min(dt/dt*, 1) reaches this; 0 stops as soon as every sample passes.",
    )


class FeatureSection(BaseModel):
    feature_type: FeatureType = Field(
        default="error_series",
        description="What of the state the network sees: basic, rich and delta_mag of "
        "AITimeStepper; dimensionless shape of the closest encounter; error_series, the same and "
        "how the energy error of a leapfrog's step grows with dt; leading_error, what a step of "
        "hermite4 leaves behind, which costs no pass over the pairs.",
    )
    history_len: int = Field(
        default=0, ge=0, le=64, description="Past states given to the network."
    )
    normalize_inputs: bool = Field(
        default=False,
        description="Divide lengths, speeds, accelerations and times by L0, V0, A0, T0.",
    )
    norm_mode: Literal["auto", "manual"] = Field(
        default="auto",
        description="auto: scales of the initial condition; manual: the norm_* fields.",
    )
    norm_L0: Positive | None = Field(default=None, description="Length scale (manual; default 1).")
    norm_V0: Positive | None = Field(default=None, description="Speed scale (manual; default 1).")
    norm_A0: Positive | None = Field(
        default=None, description="Acceleration scale (default V0²/L0)."
    )
    norm_T0: Positive | None = Field(default=None, description="Time scale (default L0/V0).")


class NetworkSection(BaseModel):
    hidden_dims: list[Annotated[int, Field(ge=1, le=16384)]] = Field(
        strict=False,
        default=[200, 1000, 1000, 200],
        max_length=32,
        description="Widths of the hidden layers.",
    )
    activation: Activation = Field(default="tanh", description="Activation of the hidden layers.")
    dropout: float = Field(
        default=0.2, ge=0, lt=1, description="Dropout; never active in the gate."
    )
    fourier_scale: float = Field(
        default=-1.0,
        ge=-1,
        le=1e6,
        allow_inf_nan=False,
        description="Scale of a random Fourier embedding of the input; 0 or less means none.",
    )
    fourier_dim: int = Field(
        default=256, ge=2, le=16384, multiple_of=2, description="Width of the Fourier embedding."
    )
    dt_head: Literal["log", "softplus"] = Field(
        default="log",
        description="log: dt = t_ref · exp(network), scales exactly with the system; softplus: "
        "the original's dt = softplus(network).",
    )


class InitialConditionSection(BaseModel):
    G: Annotated[float, Field(gt=0, le=1e300, allow_inf_nan=False)] | UnitSystem = Field(
        default=1.0,
        description="Newton's constant in the units of masses, lengths and times here and in "
        "initial-condition files: a number, or SI, AU/Msun/yr, AU/Msun/day, pc/Msun/Myr, henon.",
    )
    initial_conditions: InitialConditions = Field(
        default="kepler_ensemble", description="Which system or population to train on."
    )
    num_particles: Annotated[int, Mark.OF_A_POPULATION] = Field(
        default=2,
        ge=2,
        le=16384,
        description="N of `random`, `random_bound`, `plummer` and `planetary_system` (the star, "
        "planets, and as many massless asteroids).",
    )
    num_systems: Annotated[int, Mark.OF_A_POPULATION] = Field(
        default=1,
        ge=1,
        le=2**20,
        description="Systems of a random population, stepped as one batch (for `kepler_ensemble` "
        "it is num_orbits).",
    )
    dim: Annotated[Literal[2, 3], Mark.OF_A_POPULATION] = Field(
        default=2, description="Spatial dimensions."
    )
    mass: Positive = Field(
        default=1.0,
        description="Mass of each particle of `kepler`, `kepler_ensemble`, `random`, "
        "`random_bound`, `hierarchical_triple`, `binary_single` and `lagrange_triangle`, of the "
        "stars of `planetary_system`, `kozai_triple` and `resonant_chain`; the other systems have "
        "masses of their own.",
    )
    mass_ratio_min: Annotated[float, Mark.OF_A_POPULATION] = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Masses after the first are log-uniform between this fraction of it and all of "
        "it (`kepler_ensemble`, `random_bound`, `hierarchical_triple`, `binary_single`); in "
        "`plummer` masses follow Salpeter's law between the two.",
    )
    pos_scale: Positive = Field(
        default=0.1, description="Position scale of `random` and `random_bound`."
    )
    perturbation: NonNegative = Field(
        default=0.01, description="Relative noise on the coordinates of `figure_eight_family`."
    )
    vel_scale: NonNegative = Field(
        default=1.0,
        description="Speed scale of `random`; of `binary_single` the speed at infinity in units of "
        "the critical one, at which the total energy is zero.",
    )
    virial_ratio: Positive = Field(
        default=0.5,
        description="Kinetic over |potential| energy of `plummer`; from 1 on it is unbound.",
    )
    num_orbits: Annotated[int, Mark.OF_A_POPULATION] = Field(
        default=8, ge=1, le=2**20, description="Orbits of `kepler_ensemble`."
    )
    e_min: float = Field(
        default=0.6, ge=0, le=1e4, description="Least eccentricity of the ensemble."
    )
    e_max: float = Field(
        default=0.95,
        ge=0,
        le=1e4,
        description="Largest eccentricity of the ensemble; orbits with e >= 1 are unbound, and "
        "followed between fifty pericentres in and out.",
    )
    a_min: Positive = Field(
        default=0.8,
        description="Least semi-major axis, of the ensemble or a triple's inner orbit; of a "
        "hyperbola |a|, of a parabola the pericentre distance.",
    )
    a_max: Positive = Field(
        default=1.2,
        description="Largest semi-major axis, of the ensemble or a triple's inner orbit.",
    )
    eccentricity: float = Field(
        default=0.9,
        ge=0,
        le=1e4,
        description="Eccentricity of `kepler`; an unbound orbit (>= 1) starts fifty pericentres "
        "away, on its way in.",
    )
    semi_major: Positive = Field(default=1.0, description="Semi-major axis of `kepler`.")
    hard_systems: Annotated[
        Annotated[list[System], Field(fail_fast=True, min_length=1, max_length=MOST_HARD_ROWS // 2)]
        | None,
        *(Mark.OF_A_POPULATION, Mark.OF_TRAINING_ALONE, Mark.CHANGEABLE),
    ] = Field(
        default=None,
        description="Systems that training takes besides those that it draws, each as rows of "
        "`particles`: for example the held-out states on which an earlier stepper failed. Of a "
        "population that draws afresh (resample_each_epoch, or lifetime); never part of a score, "
        "and the held-out systems are others than without them.",
    )
    hard_share: Annotated[
        float, *(Mark.OF_A_POPULATION, Mark.OF_TRAINING_ALONE, Mark.CHANGEABLE)
    ] = Field(
        default=0.25,
        gt=0,
        le=1,
        description="Share of the systems of a draw that are hard_systems, drawn with replacement.",
    )
    ic_path: Annotated[
        Annotated[str, AfterValidator(_check_ic_path)] | None, Mark.OF_A_POPULATION
    ] = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="File of `file`, relative to the data folder: rows m x.. v.. as npy, npz or "
        "text (txt, csv, tsv, dat), an HDF5 snapshot (h5, hdf5), a REBOUND archive (bin, sa), or a "
        "simulation's own npz, whose last state is taken.",
    )
    particles: Annotated[Particles | None, Mark.OF_A_POPULATION] = Field(
        strict=False,
        default=None,
        min_length=2,
        max_length=4096,
        description="Rows [m, x.., v..] of `inline`.",
    )
    external_field_mass: Positive | Annotated[list[Positive], SEVERAL] | None = Field(
        default=None,
        description="Mass of a fixed point-mass perturber whose tidal field acts, or a list of up "
        "to 16.",
    )
    external_field_position: Place | Annotated[list[Place], SEVERAL] | None = Field(
        default=None, description="Position of the perturber, or one of each in a list."
    )
    softening: NonNegative = Field(
        default=0.0, description="Plummer softening length, in force, energy and features alike."
    )


class DeviceSection(BaseModel):
    device: Annotated[Annotated[str, AfterValidator(_check_device)], Mark.CHANGEABLE] = Field(
        default="auto", max_length=16, description="auto, cpu, cuda or cuda:N."
    )
    dtype: Literal["float32", "float64"] = Field(
        default="float64", description="Of the state, its features and the gate."
    )
    network_dtype: Literal["float32", "float64"] | None = Field(
        default=None,
        description="Of the network, where it is another than `dtype`: float32 takes half the "
        "time of float64, and with `adam_beta2` 0.99 scores the same; the gate stays in `dtype`.",
    )
    tf32: Annotated[bool, Mark.CHANGEABLE] = Field(
        default=False, description="Allow TF32 in the network's products on CUDA."
    )
    cuda_graphs: bool = Field(
        default=True,
        description="On CUDA keep the loops on the device and replay each iteration as one graph.",
    )
    compile: Annotated[bool, Mark.CHANGEABLE] = Field(
        default=False,
        description="Compile features and network with torch.compile: needs a C++ compiler; "
        "a minute or two at the start, then less time for each state.",
    )
    detect_anomaly: Annotated[bool, Mark.CHANGEABLE] = Field(
        default=False, description="Trace the operation that made a NaN (slow)."
    )


class SimulationSection(BaseModel):
    integrator_mode: IntegratorMode = Field(
        default="gated", description=f"Stepping rule of a simulation: {describe_rules()}."
    )
    dt: Positive | None = Field(default=None, description="Time step of `fixed`.")
    eta: Positive = Field(default=0.1, description="`analytic` steps eta times the free-fall time.")
    dt_scale: Positive = Field(
        default=1.0,
        description="Factor on the trained stepper's dt in a simulation: its calibration factor, "
        "or less for a more accurate run.",
    )
    steps: int | None = Field(
        default=None, ge=1, le=10**9, description="Most steps of a simulation."
    )
    duration: Real | None = Field(
        default=None, description="Time span of a simulation; a negative one goes back in time."
    )
    output_every: Positive | None = Field(
        default=None,
        description="Time between the states that a simulation keeps; without it every step's.",
    )
    output_times: list[NonNegative] | None = Field(
        strict=False,
        default=None,
        min_length=1,
        max_length=100_000,
        description="Times of the states that a simulation keeps, ascending, as they elapse from "
        "its beginning: of a run back in time, too.",
    )
    Nperiod: int = Field(
        default=10, ge=1, le=10**6, description="Periods to simulate where no duration is given."
    )


class LoggingSection(BaseModel):
    save_name: Annotated[
        Annotated[str, AfterValidator(check_save_name)] | None, Mark.CHANGEABLE
    ] = Field(default=None, max_length=64, description="Label, and folder under the data folder.")
    wandb: Annotated[bool, Mark.CHANGEABLE] = Field(
        default=False, description="Log to Weights & Biases."
    )
    wandb_project: Annotated[str | None, Mark.CHANGEABLE] = Field(
        default=None, max_length=128, description="W&B project."
    )
    wandb_name: Annotated[str | None, Mark.CHANGEABLE] = Field(
        default=None, max_length=128, description="W&B run name."
    )
    debug: Annotated[bool, Mark.CHANGEABLE] = Field(
        default=False, description="Keep per-epoch results in the returned dictionary."
    )
    checkpoint_every: Annotated[int, Mark.CHANGEABLE] = Field(
        default=10,
        ge=1,
        le=10**8,
        description="Epochs between checkpoints; the last is always saved.",
    )
    evaluation_orbits: Annotated[Annotated[int, Field(ge=0, le=65536)] | None, Mark.CHANGEABLE] = (
        Field(
            default=None,
            description="Held-out systems that the trained stepper is scored on; 0 means none, "
            "null 64, or fewer of more than 32 particles, which take long.",
        )
    )
    extra: Annotated[
        Annotated[dict[str, JsonValue], AfterValidator(_check_extra_dict)], Mark.CHANGEABLE
    ] = Field(
        default_factory=dict,
        max_length=256,
        json_schema_extra={"default": {}},
        description="Free-form user data, kept as it is.",
    )

"""A trained network, ready to use: positions, velocities and masses in, time steps out."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from pydantic import ValidationError
from torch import Tensor, nn

from nbody.checkpoint import load_checkpoint
from nbody.config import Config
from nbody.config.input_width import input_width
from nbody.config.of_checkpoint import LAYER, WITHOUT_CONFIG, config_of, what_is_wrong
from nbody.config.size import judged_at_once
from nbody.device import resolve_network_dtype
from nbody.errors import CheckpointUnreadable
from nbody.gravity.external_field import field_from_config
from nbody.gravity.vectors import as_like
from nbody.history_buffer import HistoryBuffer
from nbody.integrators.each_body import has_light_bodies
from nbody.integrators.named import INTEGRATORS
from nbody.integrators.oracle import cautious_step
from nbody.integrators.states import States
from nbody.metrics import GOOD_PASS_RATE
from nbody.model import FullyConnectedNN, LogTimeStepNN
from nbody.model_adapter import ModelAdapter, Threshold, gate_dt, gate_threshold
from nbody.particle import ParticleTorch
from nbody.stepper_input import Numbers, checked, gravity, thresholds

PREDICTED_PAIRS = 2**17  # of particles, in memory


class Stepper:
    """`stepper(position, velocity, mass) -> dt`, without gradients and with dropout off.

    Where a state lies outside of what the network was trained on, the step is found by trying
    (`cautious_step`), or with `leading_error` features the most cautious that training took, in
    units of their own step; a network of the original's, which does not know, is always asked.

    Attributes:
        outside: for how many states that was, so far.
        info: what its checkpoint says of itself: `epoch`, and how good it was on that epoch's
            samples, `pass_rate`, `violation_rate`, `efficiency`.
    """

    def __init__(self, model: nn.Module, adapter: ModelAdapter) -> None:
        self.model = model.eval()
        self.adapter = adapter
        self.info: dict[str, Any] = {}
        self.outside = 0  # states so far that the network was not trained on

    @property
    def config(self) -> Config:
        """The config that the network was trained with."""
        return self.adapter.config

    @torch.no_grad()
    def __call__(
        self,
        position: Numbers,
        velocity: Numbers,
        mass: Numbers,
        history: HistoryBuffer | None = None,
        energy_threshold: Numbers | None = None,
        G: float | str | None = None,
    ) -> Float[Tensor, "..."]:
        """The step (...,) of states (..., N, D) with masses (..., N), (N,) or one for all.

        Softening and external field are those of the config. Particles whose mass, position and
        velocity are all zero are padding, so that systems of different sizes go into one array.
        The step of a state that is not finite is NaN. A network that was trained with `gate: auto`
        looks at each body's orbit where masses are unequal, as training does.

        Args:
            history: past states; without it a network trained with history sees none.
            energy_threshold: of the gate, one number or (...,); the config's where none is given.
                Only `error_series` and `leading_error` see it.
            G: Newton's constant in the units of the arguments, or their name; the config's where
                none is given.

        Raises:
            ValueError: what cannot be a system: shapes that do not fit, fewer than two particles,
                D other than 2 and 3, a negative mass, no mass at all, two particles at one place;
                a threshold or a G that is not above zero, units that have no name here.
        """
        device, dtype = self.adapter.device, self.adapter.dtype
        field = field_from_config(self.config)
        systems = checked(
            position,
            velocity,
            mass,
            dtype=dtype,
            device=device,
            centred=field is None,
            softening=self.config.softening,
        )
        threshold = thresholds(energy_threshold, systems, dtype)
        state = ParticleTorch(
            gravity(self.config.G if G is None else G) * systems.mass,
            systems.position,
            systems.velocity,
            softening=self.config.softening,
            external_field=field,
            energy_threshold=threshold,
            integrator=INTEGRATORS[self.config.integrator],
        )
        light = has_light_bodies(systems.mass, systems.real, field)
        kinds = torch.column_stack((light, systems.real))  # of systems that are asked together
        several = cast(Tensor, torch.unique(kinds, dim=0))
        if history is not None and len(several) > 1:
            raise ValueError(
                "systems of different sizes, or with and without light bodies, have no common "
                "history; ask for one at a time"
            )
        dt = torch.empty_like(systems.mass[:, 0])
        for kind in several.unbind():
            rows = (kinds == kind).all(1).nonzero().squeeze(1)
            one = state if len(several) == 1 else state.select(rows)
            one = one.particles(kind[1:]).replace(gate="each" if kind[0] else "energy")
            dt[rows] = self.of_particle(one, history)
        return dt.reshape(systems.leading)

    @torch.no_grad()
    def of_particle(
        self, state: ParticleTorch, history: HistoryBuffer | None = None
    ) -> Float[Tensor, " B"] | Float[Tensor, ""]:
        """The step (B,) of a batch, or () of one system; knows the step that led to the state."""
        if self.adapter.history_enabled and history is None:
            history = HistoryBuffer(self.config.history_len, self.config.feature_type)
        batch = state.batched()
        dt = self.of_states(batch.states(), batch.dt, history)
        return dt if state.is_batch else dt.squeeze(0)

    @torch.no_grad()
    def of_states(
        self,
        states: States,
        last_dt: Float[Tensor, " T"] | Float[Tensor, ""] | float = 0.0,
        history: HistoryBuffer | None = None,
        *,
        network_alone: bool = False,
    ) -> Float[Tensor, " T"]:
        """The step (T,) of states whose forces are known; NaN for a state that is not finite.

        Args:
            network_alone: what the network says, of states that it was not trained on, too: a score
                is of what was learned.
        """
        led = as_like(last_dt, states.energy)
        rows = states.parts(PREDICTED_PAIRS, judged_at_once(self.config))
        if len(rows) > 1 and history is None:
            led = led.expand(len(states))
            alone = network_alone
            return torch.cat(
                [self.of_states(states.take(p), led[p], network_alone=alone) for p in rows]
            )
        features = self._features(states, led, history)
        dt = gate_dt(self.model, features)
        finite = (states.position.isfinite() & states.velocity.isfinite()).all(-1).all(-1)
        if isinstance(self.model, LogTimeStepNN) and not network_alone:
            known = self.model.knows(features)
            dt = self.model.bounded(features, dt)
            strange = (finite & ~known).nonzero().squeeze(1)
            if len(strange):
                self.outside += len(strange)
                cautious = self._cautious(states.take(strange), features[strange])
                dt = dt.index_copy(0, strange, cautious.to(dt))
        return dt.to(states.energy).masked_fill(~finite, torch.nan)

    @torch.no_grad()
    def knows(
        self,
        states: States,
        last_dt: Float[Tensor, " T"] | Float[Tensor, ""] | float = 0.0,
        history: HistoryBuffer | None = None,
    ) -> Bool[Tensor, " T"]:
        """Which states are like those that the network was trained on; all of them, for one that
        does not know.
        """
        features = self._features(states, as_like(last_dt, states.energy), history)
        if isinstance(self.model, LogTimeStepNN):
            return self.model.knows(features)
        return torch.ones_like(features[:, 0], dtype=torch.bool)

    def _features(self, states: States, led: Tensor, history: HistoryBuffer | None) -> Tensor:
        gate = states.gate if self.config.gate == "auto" else self.config.gate
        seen = replace(states, gate=gate)  # as in training
        return self.adapter.features_of(seen, led, history).to(self.adapter.dtype)

    def _cautious(self, states: States, features: Tensor) -> Tensor:
        """Steps of states that the network was not trained on: found by trying, but where what the
        features say by themselves is good enough, and trying would cost what they save."""
        if isinstance(self.model, LogTimeStepNN) and self.config.feature_type == "leading_error":
            return self.model.cautious(features)
        threshold = as_like(self.threshold_of(states), states.energy)
        parts = states.parts(PREDICTED_PAIRS)
        limit = threshold.expand(len(states))
        repeats = self.config.n_steps
        return torch.cat([cautious_step(states.take(p), limit[p], repeats) for p in parts])

    def threshold_of(self, states: States) -> Threshold:
        """The relative energy error that the steps of these states are for."""
        return gate_threshold(states, self.config)


def load_stepper(
    path: str | Path, device: str | torch.device = "cpu", *, compiled: bool = False
) -> Stepper:
    """The stepper in a checkpoint, ours or the original's.

    Warns where few of the samples passed the gate when it was saved: a bad epoch.

    Args:
        path: of a checkpoint; or of a folder of them, whose best one is taken.
        compiled: compile features and network with torch.compile; pays in long simulations.

    Raises:
        CheckpointUnreadable: not a checkpoint of such a network, or damaged.
    """
    if Path(path).is_dir():
        path = best_checkpoint(path)
    content = load_checkpoint(path)
    weights = content.get("model_state_dict") or content["model_state"]
    try:
        config = config_of(content) or Config.model_validate(WITHOUT_CONFIG)
        model = _network_of(weights, config)
        model.to(resolve_network_dtype(config))  # first: weights stay whole
        model.load_state_dict(weights)
        if not all(bool(values.isfinite().all()) for values in model.parameters()):
            raise ValueError("its weights are not finite: it is of a run that diverged")
    except ValidationError as error:
        raise CheckpointUnreadable(path, what_is_wrong(error)) from error
    except (RuntimeError, ValueError) as error:
        raise CheckpointUnreadable(path, str(error).partition("\n")[0]) from error
    config = _with_fitting_features(config, model.input_dim)
    if input_width(config.feature_type, config.history_len) != model.input_dim:
        raise CheckpointUnreadable(
            path, f"a network with {model.input_dim} inputs fits no features of its config"
        )
    config = config.model_copy(update={"compile": compiled})
    adapter = ModelAdapter(config, device=torch.device(device))
    model.to(adapter.device)
    if compiled:
        model.compile(dynamic=True)
    stepper = Stepper(model, adapter)
    stepper.info = {"epoch": content.get("epoch"), **(content.get("info") or {})}
    rate = stepper.info.get("pass_rate")
    if isinstance(rate, float) and rate < GOOD_PASS_RATE:
        warnings.warn(
            f"{Path(path).name} is of a bad epoch: {rate:.0%} of its samples passed the gate; "
            "load_stepper(FOLDER) takes the best checkpoint of a folder",
            stacklevel=2,
        )
    return stepper


def best_checkpoint(folder: str | Path) -> Path:
    """The best checkpoint in a folder: see `best_of`.

    Raises:
        CheckpointUnreadable: the folder has none.
    """
    paths = sorted(Path(folder).glob("*.pt"))
    if not paths:
        raise CheckpointUnreadable(folder, "the folder holds no checkpoint (*.pt)")
    return best_of({path: info_of(path) for path in paths})


def info_of(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself; empty where it says nothing.

    Raises:
        CheckpointUnreadable
    """
    return load_checkpoint(path).get("info") or {}


def best_of(checkpoints: Mapping[Path, dict[str, Any]]) -> Path:
    """The checkpoint with the largest efficiency among those of good epochs.

    Of checkpoints that say nothing of themselves, or of none but bad epochs, the last one that
    passed the most samples.

    Args:
        checkpoints: and what each says of itself.
    """

    def merit(path: Path) -> tuple[float, float, str]:
        info = checkpoints[path]
        rate, efficiency = info.get("pass_rate") or 0.0, info.get("efficiency") or 0.0
        return (1.0, efficiency, path.name) if rate >= GOOD_PASS_RATE else (rate, 0.0, path.name)

    return max(checkpoints, key=merit)


def _network_of(weights: dict[str, Tensor], config: Config) -> FullyConnectedNN:
    """A network with the shapes of the weights: the original's configs do not always say them."""
    layers = sorted(int(match[1]) for key in weights if (match := re.fullmatch(LAYER, str(key))))
    if not layers:
        raise ValueError("it holds no fully connected network")
    shapes = [weights[f"model.{layer}.weight"].shape for layer in layers]
    embedding = weights.get("embedding.B")
    options: dict[str, Any] = {
        "hidden_dims": [outputs for outputs, _ in shapes[:-1]],
        "activation": config.activation,
        "dropout": 0.5 if len(layers) > 1 and layers[1] - layers[0] == 3 else 0.0,  # off in use
        "fourier_scale": -1.0 if embedding is None else 1.0,
        "fourier_dim": 256 if embedding is None else 2 * len(embedding),
    }
    inputs = shapes[0][1] if embedding is None else embedding.shape[1]
    outputs = shapes[-1][0]
    if config.dt_head == "log":
        return LogTimeStepNN(inputs + 1, outputs, **options)
    return FullyConnectedNN(inputs, outputs, output_positive=True, **options)


def _with_fitting_features(config: Config, inputs: int) -> Config:
    """The original names `delta_mag` in files whose network really saw `basic` features."""
    if input_width(config.feature_type, config.history_len) != inputs and config.history_len == 0:
        for kind in ("basic", "rich"):
            if input_width(kind, 0) == inputs:
                return config.model_copy(update={"feature_type": kind})
    return config

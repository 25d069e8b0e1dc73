"""Everything that one training run owns: what a checkpoint must hold to continue it bit for bit."""

import math
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nbody.checkpoint import load_checkpoint, particle_from_plain, save_checkpoint, to_plain
from nbody.config import Config
from nbody.device import resolve_network_dtype
from nbody.errors import CheckpointUnreadable
from nbody.history_buffer import HistoryBuffer
from nbody.initial_conditions.from_config import initial_particle
from nbody.initial_conditions.renewal import renew
from nbody.model import build_model
from nbody.model_adapter import ModelAdapter, NormScales
from nbody.particle import ParticleTorch
from nbody.training.loops import Loops
from nbody.training.random_state import generator_states, seed_everything, set_generator_states

FINAL_LR_FRACTION = 0.01  # of lr, where the cosine schedule ends
ADAM_BETA1 = 0.9  # decay of the mean of gradients, as everybody has it


class TrainingRun:
    """A network, its optimizer, the system it is trained on, and how far the training is.

    Attributes:
        next_epoch: the epoch that runs next; epochs before it are done.
        particle: where the next epoch starts, unless it starts from fresh initial conditions.
        quality: `pass_rate`, `violation_rate` and `efficiency` on the last epoch's samples.
    """

    def __init__(
        self,
        config: Config,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        adapter: ModelAdapter,
        particle: ParticleTorch,
        history_buffer: HistoryBuffer | None = None,
        *,
        seed: int = 0,
        data_folder: Path | None = None,
    ) -> None:
        self.config, self.model, self.optimizer = config, model, optimizer
        self.adapter = adapter
        self.history_buffer = adapter.history_buffer if history_buffer is None else history_buffer
        self.initial, self.particle = particle, particle
        self.seed, self.data_folder = seed, data_folder
        self.loops = Loops()
        self.next_epoch = 0
        self.quality: dict[str, Any] | None = None

    @classmethod
    def start(cls, config: Config, data_folder: Path | None = None) -> "TrainingRun":
        """A new run as `config` says. Seeds every generator.

        Raises:
            InvalidInitialConditions
            pydantic.ValidationError: rounding would decide the gate.
        """
        config.check_arithmetic()
        seed = secrets.randbits(63) if config.seed is None else config.seed
        seed_everything(seed)
        adapter = ModelAdapter(config)
        particle = initial_particle(config, seed=seed, data_folder=data_folder)
        adapter.fit_scales(particle)
        model = build_model(config, adapter.input_dim_from_state(particle))
        model.to(device=adapter.device, dtype=resolve_network_dtype(config))
        if config.compile:
            model.compile(dynamic=True)
        optimizer = build_optimizer(config, model)
        return cls(config, model, optimizer, adapter, particle, seed=seed, data_folder=data_folder)

    @classmethod
    def resume(cls, config: Config, path: Path, data_folder: Path | None = None) -> "TrainingRun":
        """The run whose checkpoint is at `path`, ready for its next epoch.

        Raises:
            CheckpointUnreadable: not the checkpoint of a run with this config.
        """
        run = cls.start(config, data_folder)
        content = load_checkpoint(path)
        if not isinstance(content["extra"], dict) or "training_run" not in content["extra"]:
            raise CheckpointUnreadable(path, "it holds a network, but not the state of a run")
        try:
            run.load_state_dict(content)
        except (RuntimeError, ValueError, KeyError) as error:
            reason = f"it is not of a run with this config ({str(error).partition(chr(10))[0]})"
            raise CheckpointUnreadable(path, reason) from error
        return run

    def begin_epoch(self) -> ParticleTorch:
        """Set the learning rate of the next epoch, and say where the epoch starts."""
        config = self.config
        if config.lr_schedule == "cosine":
            swing = 0.5 * (1 + math.cos(math.pi * self.next_epoch / config.epochs))
            lr = config.lr * (FINAL_LR_FRACTION + (1 - FINAL_LR_FRACTION) * swing)
            self._set_options({"lr": lr})
        if config.lifetime is not None and self.next_epoch > 0:
            return renew(self.particle, self._fresh(), config.lifetime)
        if config.resample_each_epoch:
            return self._fresh()
        return self.initial if config.reset_particle_each_epoch else self.particle

    def _set_options(self, options: dict[str, Any]) -> None:
        for group in self.optimizer.param_groups:
            group.update(options)

    def _fresh(self) -> ParticleTorch:
        return initial_particle(
            self.config, seed=self.seed, epoch=self.next_epoch, data_folder=self.data_folder
        )

    def end_epoch(
        self, final_particle: ParticleTorch, quality: dict[str, Any] | None = None
    ) -> None:
        """Note that the epoch is done, where its orbits ended, and how good the network is now."""
        self.particle, self.quality = final_particle, quality
        self.next_epoch += 1

    def save(self, path: Path, logs: dict[str, Any] | None = None) -> Path:
        """Write a checkpoint of the epochs done so far."""
        return save_checkpoint(
            path,
            self.model,
            self.optimizer,
            epoch=self.next_epoch - 1,
            info=self.quality,
            logs=logs,
            config=self._config_with_its_gate(),
            extra={"training_run": self.state_dict()},
        )

    def _config_with_its_gate(self) -> Config:
        """As it was trained: where `auto` meant `each` for the population, it always does."""
        config = self.adapter.fitted_config()
        each = self.initial.gate == "each"
        return config.model_copy(update={"gate": "each"}) if each else config

    def state_dict(self) -> dict[str, Any]:
        """All state besides weights and optimizer, as plain data."""
        history = self.history_buffer
        return {
            "next_epoch": self.next_epoch,
            "seed": self.seed,
            "initial": to_plain(self.initial),
            "particle": to_plain(self.particle),
            "history": None if history is None else to_plain(history.state_dict()),
            "scales": None if self.adapter.scales is None else asdict(self.adapter.scales),
            "generators": generator_states(self.adapter.device),
        }

    def _check_systems(self, position: Tensor) -> None:
        """Systems of another size cannot go on; nor more or fewer, where each has its lifetime."""
        theirs, ours = position.shape, self.initial.position.shape
        same = theirs == ours if self.config.lifetime is not None else theirs[-2:] == ours[-2:]
        if not same:
            raise ValueError(f"its systems are {tuple(theirs)}, those of this config {tuple(ours)}")

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Continue from a checkpoint's content."""
        state = content["extra"]["training_run"]
        self._check_systems(state["initial"]["position"])
        self.model.load_state_dict(content["model_state_dict"])
        self.optimizer.load_state_dict(content["optimizer_state_dict"])
        self._set_options(optimizer_options(self.config))  # it may have been saved with others
        self.next_epoch, self.seed = state["next_epoch"], state["seed"]
        self.initial = particle_from_plain(state["initial"], self.initial)
        self.particle = particle_from_plain(state["particle"], self.initial)
        if self.history_buffer is not None and state["history"] is not None:
            self.history_buffer.load_state_dict(state["history"], self.adapter.device)
        self.adapter.scales = None if state["scales"] is None else NormScales(**state["scales"])
        set_generator_states(state["generators"], self.adapter.device)


def build_optimizer(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that a config names."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    options = optimizer_options(config)
    if config.optimizer == "sgd":
        return torch.optim.SGD(weights, **options)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(weights, **options, fused=True)


def optimizer_options(config: Config) -> dict[str, Any]:
    """What a config says of its optimizer, in torch's words."""
    options: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        return options | {"momentum": config.momentum}
    return options | {"betas": (ADAM_BETA1, config.adam_beta2)}

"""Checkpoints: written atomically, complete, and read without ever opening a pickle.

The keys are those of AITimeStepper, so that its readers read ours and ours read its: `epoch
model_state_dict optimizer_state_dict loss info logs config config_summary history_len feature_type
dtype extra`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from nbody.config import Config
from nbody.config.of_checkpoint import config_of
from nbody.durable_file import write_durably
from nbody.errors import CheckpointUnreadable
from nbody.particle import TENSORS, ParticleTorch


class InertParticle:
    """Stands in for the particle objects that some of the original's files hold: data, no code."""


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    epoch: int | None = None,
    loss: Any = None,
    info: dict[str, Any] | None = None,
    logs: dict[str, Any] | None = None,
    config: Config | None = None,
    extra: dict[str, Any] | None = None,
) -> Path:
    """Write a checkpoint so that the file is either whole and durable, or not there.

    Written under a temporary name in the same folder, synced, renamed, and the folder synced.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    weights = model.state_dict()
    optimizer_state = None if optimizer is None else optimizer.state_dict()
    content: dict[str, Any] = {
        "epoch": epoch,
        "model_state_dict": weights,
        "model_state": weights,
        "optimizer_state_dict": optimizer_state,
        "optimizer_state": optimizer_state,
        "loss": to_plain(loss),
        "info": to_plain(info),
        "logs": to_plain(logs),
        "extra": to_plain(extra),
    }
    if config is not None:
        content |= {
            "config": {**config.as_wandb_dict(), "extra": to_plain(config.extra)},
            "config_summary": config.summary(),
            "history_len": config.history_len,
            "feature_type": config.feature_type,
            "dtype": config.dtype,
        }

    def write(file: Path) -> None:
        with file.open("wb") as stream:  # named by path, the file would hold its temporary name
            try:
                torch.save(content, stream)
            except RuntimeError as error:  # of a writer whose file took no more
                cause = error.__context__
                raise cause if isinstance(cause, OSError) else error from None

    return write_durably(Path(path), write)


def load_checkpoint(
    path: str | Path, map_location: str | torch.device | None = "cpu"
) -> dict[str, Any]:
    """The content of a checkpoint, ours or the original's.

    Raises:
        CheckpointUnreadable: no such file, damaged, or holding objects that are not plain data.
    """
    allowed = [(InertParticle, "src.particle.ParticleTorch")]
    try:
        with torch.serialization.safe_globals(allowed):  # pyright: ignore[reportArgumentType]
            content = torch.load(path, map_location=map_location, weights_only=True)
    except OSError as error:
        raise CheckpointUnreadable(path, error.strerror or "no such file") from error
    except Exception as error:
        reason = "it is no checkpoint, is damaged, or holds more than tensors and plain data"
        raise CheckpointUnreadable(path, reason) from error
    if not isinstance(content, dict) or not _weights(content):
        raise CheckpointUnreadable(path, "it holds no model_state_dict")
    return cast(dict[str, Any], content)


def load_model_state(
    model: nn.Module,
    path: str | Path,
    *,
    map_location: str | torch.device | None = "cpu",
    strict: bool = True,
) -> dict[str, Any]:
    """Load a checkpoint's weights into `model`; returns the checkpoint's content."""
    content = load_checkpoint(path, map_location)
    model.load_state_dict(_weights(content), strict=strict)
    return content


def load_config_from_checkpoint(path: str | Path) -> Config | None:
    """The config of a checkpoint, or None where it has none."""
    return config_of(load_checkpoint(path))


def to_plain(value: Any) -> Any:
    """`value` as data that loads without pickle: tensors on the CPU, containers, numbers, text."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, ParticleTorch):
        parts = {name: getattr(value, name) for name in TENSORS}
        return to_plain({**parts, "softening": value.softening})
    if isinstance(value, Mapping):
        mapping = cast(Mapping[Any, Any], value)
        return {key: to_plain(item) for key, item in mapping.items()}
    if isinstance(value, list | tuple):
        items = [to_plain(item) for item in cast(Sequence[Any], value)]
        return items if isinstance(value, list) else tuple(items)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def particle_from_plain(state: dict[str, Any], like: ParticleTorch) -> ParticleTorch:
    """The particle that `plain` wrote, on the device and in the external field of `like`."""
    device = like.position.device

    return like.replace(
        softening=state["softening"],
        **{name: None if state.get(name) is None else state[name].to(device) for name in TENSORS},
    )


def _weights(content: dict[str, Any]) -> dict[str, Tensor]:
    found = content.get("model_state_dict") or content.get("model_state")
    return cast(dict[str, Tensor], found) if isinstance(found, dict) else {}

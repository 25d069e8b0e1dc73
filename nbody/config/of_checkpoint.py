"""What a checkpoint, ours or AITimeStepper's, says besides its weights. No torch.

A file that somebody sent is read without running anything that it names: of what it holds only
plain data is made; tensors and all else are left out. A hostile one may still ask for any time and
memory: `python -m nbody.config.of_checkpoint FILE` reads it in a process of its own, which has
little of both, and prints what it says as JSON.
"""

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from nbody.config import told_apart
from nbody.config.config import Config
from nbody.config.original_format import RENAMED, translate_flat
from nbody.errors import CheckpointUnreadable

LAYER = r"model\.(\d+)\.weight"  # of a fully connected network
WITHOUT_CONFIG = {"feature_type": "basic", "dt_head": "softplus"}  # the original's oldest


@dataclass(frozen=True)
class CheckpointFacts:
    """What a file says of itself.

    Attributes:
        config: that its network was trained with; made up of the original's oldest where none is
            there.
        epoch: None where it does not say.
    """

    config: Config
    epoch: int | None


def read_facts(path: Path) -> CheckpointFacts:
    """What a checkpoint file says of itself.

    Raises:
        CheckpointUnreadable: it is no checkpoint, or its config makes no sense.
    """
    content = _plain_content(path)
    weights = content.get("model_state_dict") or content.get("model_state")
    if not isinstance(weights, dict):
        raise CheckpointUnreadable(path, "it holds no model_state_dict")
    if not any(re.fullmatch(LAYER, str(key)) for key in cast(dict[Any, Any], weights)):
        raise CheckpointUnreadable(path, "it holds no fully connected network")
    try:
        config = config_of(content) or Config.model_validate(WITHOUT_CONFIG)
    except ValidationError as error:
        raise CheckpointUnreadable(path, what_is_wrong(error)) from None
    epoch = content.get("epoch")
    return CheckpointFacts(config, epoch if type(epoch) is int and 0 <= epoch <= 10**9 else None)


def config_of(content: Mapping[str, Any]) -> Config | None:
    """The config in a checkpoint's content. One that names no dt_head is the original's.

    Raises:
        pydantic.ValidationError: a field of it makes no sense.
    """
    if not isinstance(content.get("config"), dict):
        return None
    fields: dict[str, Any] = dict(content["config"])
    ours = "dt_head" in fields
    known = set(Config.model_fields) if ours else {*Config.model_fields, *RENAMED}
    kept = {key: value for key, value in fields.items() if key in known}
    if not isinstance(kept.get("extra"), dict):  # the original's: whatever else it kept
        kept["extra"] = _json_only({key: v for key, v in fields.items() if key not in known})
    kept.setdefault("gate", "energy")  # older than the choice
    if ours:
        return Config.model_validate(kept)
    if kept.pop("ic_path", None) is not None:  # of another machine; the rows are beside it
        kept |= trained_on(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a file that nobody can change any more
        return Config.model_validate(translate_flat(kept))


def trained_on(content: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a Config: the initial condition that the original keeps beside its weights."""
    extra = content.get("extra")
    rows = cast(Mapping[str, Any], extra).get("train_ic") if isinstance(extra, dict) else None
    return {"initial_conditions": "inline", "particles": rows} if rows else {}


def what_is_wrong(error: ValidationError) -> str:
    """The first field of a checkpoint's config that makes no sense, and why."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"its config: {'.'.join(map(str, first['loc']))}: {first['msg']}"


class _Inert:
    """Stands for whatever a pickle names; takes everything and does nothing."""

    def __new__(cls, *_: object, **__: object) -> "_Inert":
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None: ...


class _Ordered(dict[Any, Any]):
    """A dictionary of weights, without what is attached to it."""

    def __setstate__(self, _: object) -> None: ...


class _PlainData(pickle.Unpickler):
    """Loads dictionaries, lists, numbers and text; nothing is imported."""

    def find_class(self, module: str, name: str, /) -> type[Any]:
        """What stands for a name."""
        return _Ordered if (module, name) == ("collections", "OrderedDict") else _Inert

    def persistent_load(self, pid: object) -> _Inert:
        """What stands for the numbers of a tensor."""
        del pid
        return _Inert()


def _plain_content(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            [name] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            content = _PlainData(io.BytesIO(archive.read(name))).load()
    except OSError as error:
        raise CheckpointUnreadable(path, error.strerror or "it cannot be read") from error
    except Exception as error:
        raise CheckpointUnreadable(path, "it is no checkpoint of torch's, or is damaged") from error
    if not isinstance(content, dict):
        raise CheckpointUnreadable(path, "it holds no dictionary")
    return cast(dict[str, Any], content)


def _json_only(fields: dict[str, Any]) -> dict[str, Any]:
    kinds = bool | int | float | str | None
    return {key: value for key, value in fields.items() if isinstance(value, kinds)}


def _told(path: Path) -> dict[str, Any]:
    facts = read_facts(path)
    return {"config": facts.config.model_dump(mode="json"), "epoch": facts.epoch}


if __name__ == "__main__":
    told_apart.main(_told)

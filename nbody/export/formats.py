"""The kinds of files that a stepper can become."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from nbody.config.stepping_rules import METHODS
from nbody.durable_file import write_durably
from nbody.errors import NotExportable
from nbody.export.c_source import Facts, c_files, filled, words_of
from nbody.export.onnx_graph import write_onnx
from nbody.export.rebound_source import PluginRule, rebound_files
from nbody.export.vectors import answered, vector_files
from nbody.native.weights import Weights, weights_of
from nbody.stepper import Stepper

ExportFormat = Literal["c", "fortran", "rebound", "onnx", "safetensors"]


@dataclass(frozen=True)
class Exported:
    """What an export is made from."""

    stepper: Stepper
    facts: Facts
    calibration: float

    @property
    def weights(self) -> Weights:
        """The network in plain arrays.

        Raises:
            NotCompilable, NotExportable: of what it is made that there is no code for.
        """
        config = self.stepper.config
        if config.external_field_mass is not None:
            raise NotExportable(
                "it was trained in an external field, which the exported code does not have"
            )
        return weights_of(
            self.stepper.model, config.feature_type, config.history_len, self.calibration
        )

    @property
    def rule(self) -> PluginRule:
        """The stepper's own integrator, with steps that are symmetric in time where that is."""
        config = self.stepper.config
        method = METHODS[config.integrator]
        return PluginRule(
            config.integrator, config.energy_threshold, method.symmetric, self.weights
        )


def export_stepper(
    stepper: Stepper,
    to: ExportFormat,
    folder: Path,
    *,
    name: str = "orrery",
    title: str = "A time stepper trained with Orrery",
    calibration: float = 1.0,
) -> list[Path]:
    """Write a stepper's files into a folder; returns their paths.

    Args:
        name: prefix of all names in the code, so that several steppers go into one program.
        title: what the files say that they are.
        calibration: factor on each step.

    Raises:
        NotCompilable, NotExportable: it cannot become such a file; says why.
        InvalidInitialConditions: those from which test vectors come are in a file that is not here.
        OSError: the folder cannot be written.
    """
    rate = stepper.info.get("violation_rate")
    facts = Facts.of(stepper.config, name, title, rate if isinstance(rate, float) else None)
    folder.mkdir(parents=True, exist_ok=True)
    return FORMATS[to](Exported(stepper, facts, calibration), folder)


def _c(exported: Exported, folder: Path) -> list[Path]:
    return _written(folder, _c_texts(exported))


def _c_texts(exported: Exported) -> dict[str, str]:
    facts, words = exported.facts, words_of(exported.facts)
    return {
        **c_files(exported.weights, facts),
        **vector_files(facts, answered(exported.stepper, exported.calibration)),
        f"{facts.name}_check.c": filled("check.c", words),
        "Makefile": filled("Makefile", words),
    }


def _fortran(exported: Exported, folder: Path) -> list[Path]:
    facts, texts = exported.facts, _c_texts(exported)
    count = texts[f"{facts.name}_vectors.h"].split("VECTORS = ")[1].split(" ")[0]
    words = {**words_of(facts), "COUNT": count}
    module, check = filled("stepper.f90", words), filled("check.f90", words)
    texts |= {f"{facts.name}_stepper.f90": module, f"{facts.name}_check.f90": check}
    return _written(folder, {**texts, "Makefile": filled("Makefile.fortran", words)})


def _rebound(exported: Exported, folder: Path) -> list[Path]:
    return _written(folder, rebound_files(exported.rule, exported.facts))


def _onnx(exported: Exported, folder: Path) -> list[Path]:
    path = folder / f"{exported.facts.name}_stepper.onnx"
    weights = exported.weights
    return [write_durably(path, lambda file: write_onnx(weights, file))]


def _safetensors(exported: Exported, folder: Path) -> list[Path]:
    if find_spec("safetensors") is None:
        raise NotExportable("this needs the package safetensors: pip install 'orrery[export]'")
    write: Any = import_module("safetensors.torch").save_file
    stepper, path = exported.stepper, folder / f"{exported.facts.name}_stepper.safetensors"
    tensors = {name: values.contiguous() for name, values in stepper.model.state_dict().items()}
    told = {
        "config": json.dumps(stepper.config.model_dump(mode="json")),
        "calibration": repr(exported.calibration),
        "title": exported.facts.title,
    }
    return [write_durably(path, lambda file: write(tensors, file, told))]


def _written(folder: Path, texts: dict[str, str]) -> list[Path]:
    def write(path: Path, text: str) -> Path:
        return write_durably(path, lambda file: file.write_text(text, encoding="utf-8"))

    return [write(folder / name, text) for name, text in texts.items()]


FORMATS: dict[ExportFormat, Callable[[Exported, Path], list[Path]]] = {
    "c": _c,
    "fortran": _fortran,
    "rebound": _rebound,
    "onnx": _onnx,
    "safetensors": _safetensors,
}

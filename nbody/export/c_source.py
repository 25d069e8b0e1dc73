"""A trained stepper as C99: the engine's own sources with the weights written into them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nbody.config import Config
from nbody.errors import NotExportable
from nbody.native.engine import SOURCES
from nbody.native.weights import Weights

TEMPLATES = Path(__file__).with_name("templates")
PARTS = ("network", "leading_error", "dimensionless", "stepper")  # what a stepper is made of
PUBLIC = ("orrery_symmetric",)  # of these parts; all else is the file's own
TYPES = "double|int|bool|void|size_t|const orrery_method|orrery_(?:system|energies)"
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
PER_LINE = 4  # numbers
FROM_OUTSIDE = ("NAME", "UPPER", "TITLE")  # words in which nothing is replaced


@dataclass(frozen=True)
class Facts:
    """What a file says of the stepper in it.

    Attributes:
        name: prefix of all names in it.
        title: one line, what and whence.
        integrator: whose steps it was trained for.
        threshold, most: of the relative energy error of a step, in training.
        violations: share of its last epoch's steps that were beyond it, or None where not known.
    """

    name: str
    title: str
    integrator: str
    threshold: float
    most: float | None
    violations: float | None

    @classmethod
    def of(cls, config: Config, name: str, title: str, violations: float | None) -> "Facts":
        """What a config says.

        Raises:
            NotExportable: the name is none in C and Fortran.
        """
        if not NAME.fullmatch(name):
            raise NotExportable(
                f"{name!r} cannot be a prefix of names in C and Fortran; use a letter, and up to "
                "39 of a-z, 0-9, _"
            )
        most = config.energy_threshold_max
        return cls(name, title, config.integrator, config.energy_threshold, most, violations)


def c_files(weights: Weights, facts: Facts) -> dict[str, str]:
    """The stepper's header and source, by file name."""
    words = {
        **words_of(facts),
        "CALIBRATION": repr(weights.calibration),
        "STATE": declarations("state.h"),
        "WIDEST": str(widest(weights)),
        "PARTS": amalgam(PARTS),
        "WEIGHTS": weights_in_c(weights),
    }
    names = {f"{facts.name}_stepper{ending}": f"stepper{ending}" for ending in (".h", ".c")}
    return {name: filled(template, words) for name, template in names.items()}


def words_of(facts: Facts) -> dict[str, str]:
    """What all templates may say."""
    to = "" if facts.most is None else f" to {facts.most:g}"
    rate = facts.violations
    return {
        "NAME": facts.name,
        "UPPER": facts.name.upper(),
        "TITLE": facts.title.replace("*/", "* /"),
        "INTEGRATOR": facts.integrator,
        "THRESHOLD": repr(facts.threshold),
        "THRESHOLDS": f"{facts.threshold:g}{to}",
        "VIOLATIONS": "an unknown share" if rate is None else f"{rate:.2%}",
    }


def filled(template: str, words: Mapping[str, str]) -> str:
    """A template with its words, and with the prefix of the stepper's name."""
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    for word, value in words.items():
        if word not in FROM_OUTSIDE:
            text = text.replace(f"@{word}@", value)
    text = text.replace("orrery_", "@NAME@_").replace("ORRERY_", "@UPPER@_")
    for word in FROM_OUTSIDE:
        text = text.replace(f"@{word}@", words[word])
    return text


def widest(weights: Weights) -> int:
    """Outputs of the widest layer."""
    embedding = 0 if weights.waves is None else 2 * len(weights.waves)
    return max(embedding, *weights.widths)


def numbers(values: np.ndarray) -> str:
    """Numbers in C, exactly, some to a line."""
    texts = [_number(value) for value in values.ravel().tolist()]
    lines = [", ".join(texts[i : i + PER_LINE]) for i in range(0, len(texts), PER_LINE)]
    return ",\n    ".join(lines)


def _number(value: float) -> str:
    text = repr(value)
    return {"inf": "INFINITY", "-inf": "-INFINITY", "nan": "NAN"}.get(text, text)


def amalgam(parts: Sequence[str]) -> str:
    """Parts of the engine as one piece of C."""
    return "\n".join(map(_part, parts))


def _part(name: str) -> str:
    """Header and source of a part, without what only separate files need."""
    source = (SOURCES / f"{name}.c").read_text(encoding="utf-8")
    macros = re.findall(r"^#define (\w+)", source, flags=re.MULTILINE)
    ends = "".join(f"#undef {macro}\n" for macro in macros)
    body = re.sub(r"^#include .*\n", "", source, flags=re.MULTILINE)
    return _own(f"{declarations(name + '.h')}\n\n{body.strip()}\n{ends}")


def declarations(header: str) -> str:
    """A header without its guard and its includes."""
    text = (SOURCES / header).read_text(encoding="utf-8")
    text = re.sub(r"^#ifndef ORRERY_\w+_H\n#define ORRERY_\w+_H\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^#include .*\n", "", text, flags=re.MULTILINE)
    return text.rstrip().removesuffix("#endif").strip()


def _own(text: str) -> str:
    """Functions that are no one else's business are static."""

    def declared(match: re.Match[str]) -> str:
        return match[0] if match[2] in PUBLIC else f"static {match[0]}"

    text = re.sub(r"^extern .*\n", "", text, flags=re.MULTILINE)
    return re.sub(rf"^({TYPES}) (orrery_\w+)(?=[(\[])", declared, text, flags=re.MULTILINE)


def weights_in_c(weights: Weights) -> str:
    widths = ", ".join(map(str, weights.widths))
    arrays = {"VALUES": weights.values, "WAVES": weights.waves, "ENVELOPE": weights.envelope}
    lines = [f"static const int WIDTHS[] = {{{widths}}};"]
    lines += [
        f"static const double {name}[] = {{\n    {numbers(values)}}};"
        for name, values in arrays.items()
        if values is not None
    ]
    given = {name: "NULL" if values is None else name for name, values in arrays.items()}
    lines.append(
        "static const orrery_stepper orrery_trained = {\n"
        f"    .features = ORRERY_{weights.features.upper()},\n"
        "    .network = {\n"
        f"        .inputs = {weights.inputs},\n"
        f"        .layers = {len(weights.widths)},\n"
        "        .width = WIDTHS,\n"
        f"        .waves = {given['WAVES']},\n"
        f"        .embedding = {0 if weights.waves is None else 2 * len(weights.waves)},\n"
        f"        .activation = ORRERY_{weights.activation.upper()},\n"
        f"        .weights = {given['VALUES']},\n"
        f"        .envelope = {given['ENVELOPE']},\n"
        "    },\n"
        f"    .calibration = {weights.calibration!r},\n"
        "};"
    )
    return "\n\n".join(lines)

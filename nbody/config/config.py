"""Config: what a run is. The library's configuration and the HTTP payload, torch-free."""

import difflib
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from nbody.config import original_format
from nbody.config.files import read_config_file
from nbody.config.input_width import WITH_THRESHOLD, WITH_TIME_SCALE
from nbody.config.perturbers import body_at, listed
from nbody.config.plausibility import doubts
from nbody.config.sections import (
    MOST_HARD_ROWS,
    DeviceSection,
    FeatureSection,
    GateSection,
    InitialConditionSection,
    LoggingSection,
    LossSection,
    NetworkSection,
    OptimizationSection,
    SimulationSection,
)
from nbody.config.stepping_rules import METHODS, STEPPING_RULES
from nbody.config.systems import SYSTEMS
from nbody.config.units import newton

# Five times what rounding adds to an energy error in 99 % of states.
MOST_ERRORS = 50  # that are told of one Config: to look for the nearest key takes time
LONGEST_KEY = 40  # that is looked for among the fields
OF_POPULATIONS_ALONE = ("resample_each_epoch", "lifetime", "num_systems")
LEAST_THRESHOLD = {"float32": 1e-5, "float64": 2e-14}


def field_error(field: str, message: str) -> ValidationError:
    """A validation error about one field of a Config."""
    error = PydanticCustomError("inconsistent", "{reason}", {"reason": message})
    details = InitErrorDetails(type=error, loc=(field,), input=None)
    return ValidationError.from_exception_data("Config", [details])


class Config(
    OptimizationSection,
    GateSection,
    LossSection,
    FeatureSection,
    NetworkSection,
    InitialConditionSection,
    DeviceSection,
    SimulationSection,
    LoggingSection,
):
    """Everything that a run needs to know. Unknown keys are errors that name the nearest known key.

    Raises:
        pydantic.ValidationError (a ValueError): a field is unknown, out of range or inconsistent.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, protected_namespaces=(), hide_input_in_errors=True
    )

    @model_validator(mode="wrap")
    @classmethod
    def _name_nearest_key(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Unknown keys are answered with the nearest known one."""
        try:
            return handler(data)
        except ValidationError as error:
            lines = error.errors(include_url=False, include_input=False)[:MOST_ERRORS]
            raise ValidationError.from_exception_data(
                "Config", [_with_nearest_key(line) for line in lines]
            ) from None

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        for low, high in (("e_min", "e_max"), ("a_min", "a_max"), ("E_lower", "E_upper")):
            if getattr(self, low) > getattr(self, high):
                raise field_error(high, f"must not be less than {low}")
        self._check_features()
        if self.feature_type == "leading_error":
            self._check_leading_error()
        mode = self.integrator_mode
        if STEPPING_RULES[mode].past == "required" and self.history_len == 0:
            raise field_error("history_len", f"integrator_mode {mode!r} needs history_len >= 1")
        if STEPPING_RULES[mode].symmetric and not METHODS[self.integrator].symmetric:
            several = ", ".join(name for name, method in METHODS.items() if method.symmetric)
            message = f"{self.integrator} is not symmetric in time; reversible steps need {several}"
            raise field_error("integrator_mode", message)
        self._check_initial_conditions()
        self._check_external_field()
        self._check_output()
        return self

    def _check_features(self) -> None:
        if self.feature_type == "delta_mag" and self.history_len == 0:
            raise field_error("history_len", "delta_mag compares states: use history_len >= 1")
        scaled = self.feature_type in WITH_TIME_SCALE
        if self.dt_head == "log" and not scaled:
            if "dt_head" in self.model_fields_set:
                names = " or ".join(WITH_TIME_SCALE)
                raise field_error("dt_head", f"the log head needs feature_type {names}")
            self.dt_head = "softplus"
        if scaled and self.normalize_inputs:
            message = f"{self.feature_type} features have no units: they need no normalization"
            raise field_error("normalize_inputs", message)

    def _check_leading_error(self) -> None:
        if not METHODS[self.integrator].predicts:
            several = ", ".join(name for name, method in METHODS.items() if method.predicts)
            message = (
                f"{self.integrator} leaves no derivatives behind: leading_error is of {several}"
            )
            raise field_error("feature_type", message)
        if self.history_len:
            message = "leading_error is made of what the last step left: it needs no past states"
            raise field_error("history_len", message)

    def _check_output(self) -> None:
        if self.duration == 0:
            raise field_error("duration", "must not be zero")
        if self.output_times is not None and self.output_every is not None:
            raise field_error("output_times", "give output_times or output_every, not both")
        times = self.output_times or []
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise field_error("output_times", "must ascend")
        if times and self.duration is not None and times[-1] > abs(self.duration) * (1 + 1e-12):
            raise field_error("output_times", f"the last is after the end, {abs(self.duration):g}")

    def _check_external_field(self) -> None:
        if (self.external_field_mass is None) != (self.external_field_position is None):
            raise field_error("external_field_position", "give mass and position, or neither")
        masses, places = listed(self.external_field_mass, self.external_field_position)
        if len(masses) != len(places):
            raise field_error("external_field_position", "give as many positions as masses")
        if self.dim == 2 and any(any(place[2:]) for place in places):
            raise field_error("external_field_position", "with dim 2 it has no third coordinate")
        if not all(map(any, places)):
            raise field_error(
                "external_field_position",
                "the tide of a mass at the origin has no end there: place it elsewhere, or give it "
                "as a particle",
            )
        if (body := body_at(places, self.particles or [])) is not None:
            raise field_error("external_field_position", f"particle {body} is at that place")

    def _check_initial_conditions(self) -> None:
        kind = self.initial_conditions
        if (kind == "file") != (self.ic_path is not None):
            raise field_error("ic_path", "give it with initial_conditions 'file', and only then")
        if (kind == "inline") != (self.particles is not None):
            raise field_error("particles", "give it with initial_conditions 'inline', only then")
        if self.particles is not None and len({len(row) for row in self.particles}) != 1:
            raise field_error("particles", "all rows must have the same length")
        known = SYSTEMS[kind]
        if known.own_units and self.newton != 1:
            raise field_error("G", f"{kind!r} is in units of its own, in which G = 1")
        if known.dim is not None:
            self._imply("dim", known.dim, f"{kind!r} has dim {known.dim}")
        if self.particles is not None:
            self._imply("dim", (len(self.particles[0]) - 1) // 2, "the rows say otherwise")
        expected = len(self.particles or ()) or known.particles
        if expected is not None:
            self._imply("num_particles", expected, f"{kind!r} has {expected} particles here")
        self._check_population()
        if self.hard_systems is not None:
            self._check_hard_systems(self.hard_systems)

    def _check_hard_systems(self, systems: list[list[list[float]]]) -> None:
        if not (self.resample_each_epoch or self.lifetime is not None):
            reason = "needs a population that is drawn afresh: resample_each_epoch, or lifetime"
            raise field_error("hard_systems", reason)
        if self.systems == 1:
            raise field_error("hard_systems", "needs num_systems (or num_orbits) above 1")
        if sum(map(len, systems)) > MOST_HARD_ROWS:
            reason = f"no more than {MOST_HARD_ROWS} rows in all: take fewer systems"
            raise field_error("hard_systems", reason)
        shape = (self.num_particles, 1 + 2 * self.dim)
        for number, rows in enumerate(systems):
            if any((len(rows), len(row)) != shape for row in rows):
                reason = f"of system {number}: {shape[0]} rows of {shape[1]} numbers are expected"
                raise field_error("hard_systems", reason)
            places = {tuple(row[1 : 1 + self.dim]) for row in rows}
            if len(places) < len(rows) and not self.softening:
                raise field_error("hard_systems", f"of system {number}: two bodies at one place")
            if not any(row[0] for row in rows):
                raise field_error("hard_systems", f"of system {number}: all bodies are massless")

    def _check_population(self) -> None:
        if not self.is_drawn:
            given = self.resample_each_epoch, self.lifetime, self.num_systems > 1
            for field, is_given in zip(OF_POPULATIONS_ALONE, given, strict=True):
                if is_given:
                    raise field_error(field, f"{self.initial_conditions!r} is one fixed system")
        if self.resample_each_epoch and not self.reset_particle_each_epoch:
            raise field_error("resample_each_epoch", "needs reset_particle_each_epoch")
        if self.lifetime is not None and self.reset_particle_each_epoch:
            raise field_error("lifetime", "needs reset_particle_each_epoch false")
        most = self.energy_threshold_max
        if most is not None and most < self.energy_threshold:
            raise field_error("energy_threshold_max", "must not be less than energy_threshold")
        if most is not None and self.feature_type not in WITH_THRESHOLD:
            reason = f"a range of thresholds needs feature_type {' or '.join(WITH_THRESHOLD)}"
            raise field_error("energy_threshold_max", reason)

    def _imply(self, field: str, value: int, otherwise: str) -> None:
        """Fill in what other fields imply; another value that was given is an error."""
        if getattr(self, field) != value:
            if field in self.model_fields_set:
                raise field_error(field, otherwise)
            setattr(self, field, value)

    def validate(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Check again, after fields were assigned.

        Raises:
            ValueError: naming the field and what is wrong with it.
        """
        type(self).model_validate(self.model_dump())

    def check_arithmetic(self) -> None:
        """Refuse to train where rounding would decide the gate.

        Raises:
            pydantic.ValidationError
        """
        least = LEAST_THRESHOLD[self.dtype]
        if self.energy_threshold < least:
            reason = f"with {self.dtype} rounding decides the gate below {least:g}"
            advice = " or use float64" if self.dtype == "float32" else ""
            raise field_error("energy_threshold", f"{reason}: use a larger one{advice}")

    @property
    def newton(self) -> float:
        """G, as a number."""
        return newton(self.G)

    @property
    def is_drawn(self) -> bool:
        """Whether systems are drawn at random from a population."""
        return SYSTEMS[self.initial_conditions].drawn

    @property
    def systems(self) -> int:
        """B, the systems that Part 1 steps as one batch."""
        if self.initial_conditions == "kepler_ensemble":
            return self.num_orbits
        return self.num_systems if self.is_drawn else 1

    def warnings(self) -> list[str]:
        """What the user should know before this config runs; empty where all is well."""
        found: list[str] = []
        samples = self.systems * max(self.steps_per_epoch - self.history_len, 0)
        if samples == 0:
            found.append(
                f"every step is warm-up: steps_per_epoch ({self.steps_per_epoch}) is not larger "
                f"than history_len ({self.history_len}), so trajectories are empty"
            )
        elif samples < self.min_replay_size:
            found.append(
                f"Part 2 will be skipped in every epoch: {samples} sample(s) per epoch are fewer "
                f"than min_replay_size ({self.min_replay_size}); raise steps_per_epoch or "
                "num_orbits or num_systems"
            )
        if self.replay_steps == 0:
            found.append("Part 2 does not train: replay_steps is 0")
        if self.stop_at_period and not self.initial_conditions.startswith("kepler"):
            found.append(f"stop_at_period has no effect: {self.initial_conditions} has no period")
        if self.loss != "oracle" and self.E_upper >= self.energy_threshold:
            found.append(
                f"steps at E_upper ({self.E_upper:g}) fail the gate (energy_threshold, "
                f"{self.energy_threshold:g}): the band is moved down, to end at half of the gate"
            )
        found += self.doubts()
        return found

    def doubts(self) -> list[str]:
        """What is strange about the particles of this config; empty where nothing is."""
        return doubts(self.particles, self.newton, self.dt) if self.particles else []

    def as_wandb_dict(self) -> dict[str, Any]:
        """All fields as plain JSON types; those of `extra` beside them, if no field hides them."""
        fields = self.model_dump(mode="json")
        return {**fields.pop("extra"), **fields}

    def summary(self) -> str:
        """One line for people."""
        network = f", network {self.network_dtype}" if self.network_dtype else ""
        return (
            f"{self.initial_conditions} epochs={self.epochs} steps_per_epoch={self.steps_per_epoch}"
            f" threshold={self.energy_threshold:g} loss={self.loss} features={self.feature_type}"
            f" hidden_dims={self.hidden_dims} lr={self.lr:g} device={self.device}"
            f" {self.dtype}{network}"
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """A Config from plain data, ours or the original's."""
        return cls.model_validate(
            original_format.translate(data) if original_format.is_original(data) else data
        )

    @classmethod
    def from_file(cls, path: str | Path, overrides: dict[str, Any] | None = None) -> Self:
        """A Config from a JSON or TOML file, ours or the original's, with some fields replaced.

        Raises:
            ValueError: the file is not JSON or TOML, or a field is wrong.
            OSError: the file cannot be read.
        """
        return cls.model_validate(read_config_file(path, overrides))


def nearest_key(key: str) -> str | None:
    """The Config field whose name is closest to `key`, if any is close and it is no longer text."""
    if len(key) > LONGEST_KEY:
        return None
    close = difflib.get_close_matches(key, Config.model_fields, n=1, cutoff=0.6)
    return close[0] if close else None


def _with_nearest_key(line: Any) -> InitErrorDetails:
    """The line as it was, or with a better message where it is about an unknown key."""
    loc: tuple[int | str, ...] = line["loc"]
    if line["type"] == "extra_forbidden" and len(loc) == 1:
        nearest = nearest_key(str(loc[0]))
        hint = f"did you mean {nearest!r}?" if nearest else "free-form data goes in 'extra'"
        message = "unknown field; {hint}"
        error = PydanticCustomError("unknown_field", message, {"hint": hint})
    else:
        error = PydanticCustomError(
            line["type"], "{reason}", {"reason": line["msg"].removeprefix("Value error, ")}
        )
    return InitErrorDetails(type=error, loc=loc, input=None)

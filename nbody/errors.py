"""What can go wrong in a run.

NBodyError
├── InvalidInitialConditions   the system to integrate cannot be made or makes no sense
├── DeviceUnavailable          the GPU that a config names is not there, or cannot be used
├── SimulationImpossible       a rule without what it needs, or too long a run
├── StepImpossible             no step, however small, satisfies the energy gate
├── TrainingDiverged           a loss or a weight is no longer finite
├── CheckpointUnreadable       a file is not a checkpoint, or is damaged
├── CompilerMissing            there is no C compiler
├── CompilerFailed             it did not make a library
├── NotCompilable              a stepper is made of what the C code does not have
├── NotExportable              a stepper cannot become such a file
└── NothingKeepsTheError       no way to integrate keeps the energy error that was asked for
"""


class NBodyError(Exception):
    """Base of every error that a run can end with."""


class InvalidInitialConditions(NBodyError):
    """The system to integrate cannot be made or makes no sense."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"initial conditions: {reason}")
        self.reason = reason


class DeviceUnavailable(NBodyError):
    """The GPU that a config names is not there, or this torch cannot use it."""

    def __init__(self, device: str, reason: str) -> None:
        super().__init__(
            f"device {device!r} cannot be used: {reason}; use device 'auto' or 'cpu', or a worker "
            "with such a GPU"
        )


class SimulationImpossible(NBodyError, ValueError):
    """The stepping rule needs what is not there, or the run has more states than can be kept."""


class StepImpossible(NBodyError):
    """No step, however small, satisfies the energy gate at some state."""

    def __init__(self, orbits: list[int], threshold: float) -> None:
        super().__init__(
            f"no time step keeps the relative energy error under {threshold:g} for orbit(s) "
            f"{orbits[:8]}: the state is singular or its energy is zero or not finite; "
            "use other initial conditions, a softening, or a larger energy_threshold"
        )


class TrainingDiverged(NBodyError):
    """A loss or a weight is no longer finite; the last checkpoint is still good."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"training diverged: {what} is not finite; resume from the last checkpoint with a "
            "smaller lr, or check the initial conditions"
        )


class CheckpointUnreadable(NBodyError):
    """A file is not a checkpoint, or is damaged."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"cannot read checkpoint {path}: {reason}")
        self.reason = reason


class CompilerMissing(NBodyError):
    """There is no C compiler here."""

    def __init__(self, named: str | None) -> None:
        where = f"CC names {named!r}, which is not there" if named else "none of cc, gcc, clang"
        super().__init__(
            f"this needs a C compiler, and there is none ({where}); install gcc or clang "
            "(Debian: apt-get install gcc libc6-dev), or name one in the variable CC"
        )


class CompilerFailed(NBodyError):
    """The C compiler did not make a library of its sources."""

    def __init__(self, compiler: str, said: str) -> None:
        lines = "; ".join(said.strip().splitlines()[:3])
        super().__init__(f"the C compiler {compiler!r} failed: {lines or 'it said nothing'}")


class NotCompilable(NBodyError, ValueError):
    """A stepper is made of what the C code does not have."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this stepper cannot be turned into C: {reason}")
        self.reason = reason


class NotExportable(NBodyError, ValueError):
    """A stepper cannot become such a file."""


class NothingKeepsTheError(NBodyError):
    """No way to integrate keeps the energy error that was asked for."""

    def __init__(self, error: float, names: list[str]) -> None:
        super().__init__(
            f"nothing that was tried keeps the relative energy error under {error:g} "
            f"({', '.join(names[:4])}, …): allow a larger one, a softening, or a shorter span"
        )

"""What can go wrong with figures, films and bundles.

ResultsError
├── NoAccess          the server does not take the token, or there is none
├── NoSuchJob         no job is called so, or several are
├── NothingToShow     the job has not what is to be drawn
├── PackageMissing    an optional package is not installed
└── BundleUnreadable  a file is no bundle, or is damaged
"""


class ResultsError(ValueError):
    """Base of these errors; each says what to do."""


class NoAccess(ResultsError):
    """The server does not take the token, or there is none."""


class NoSuchJob(ResultsError):
    """No job is called so, or several are."""


class NothingToShow(ResultsError):
    """The job has not what is to be drawn."""


class PackageMissing(ResultsError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, what: str) -> None:
        super().__init__(f"{what} needs {package}: pip install 'orrery[{extra}]'")


class BundleUnreadable(ResultsError):
    """A file is no bundle, or is damaged."""

"""Prints what pyproject.toml depends on, for `.ci/lock` to find the versions of.

`python docker/requirements.py --without torch wandb` leaves these out, `--only torch` all others;
`--extra s3` adds those of an extra. To name what is not there is an error.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path


def requirements(
    pyproject: Path,
    without: frozenset[str] = frozenset(),
    only: frozenset[str] = frozenset(),
    extras: Sequence[str] = (),
) -> list[str]:
    """The dependencies of a project, as pip reads them.

    Raises:
        ValueError: a package that is named is no dependency.
        KeyError: there is no such extra.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    by_name = {re.split(r"[^\w.-]", line, maxsplit=1)[0]: line for line in project["dependencies"]}
    if unknown := (without | only) - by_name.keys():
        raise ValueError(f"no dependency of {pyproject.name}: {', '.join(sorted(unknown))}")
    kept = (only or by_name.keys()) - without
    added = [line for extra in extras for line in project["optional-dependencies"][extra]]
    return [line for name, line in by_name.items() if name in kept] + added


def main() -> None:
    """Print the requirements of the project in this folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without", nargs="*", default=[], metavar="PACKAGE")
    parser.add_argument("--only", nargs="*", default=[], metavar="PACKAGE")
    parser.add_argument("--extra", action="append", default=[], metavar="EXTRA")
    given = parser.parse_args()
    named = frozenset(given.without), frozenset(given.only), given.extra
    for line in requirements(Path("pyproject.toml"), *named):
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()

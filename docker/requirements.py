"""Prints what pyproject.toml depends on, for an image to install in a layer of its own.

`python docker/requirements.py --without torch wandb` leaves these out; to leave out what is not
there is an error.
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, without: frozenset[str] = frozenset()) -> list[str]:
    """The dependencies of a project, as pip reads them.

    Raises:
        ValueError: a package to leave out is no dependency.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    by_name = {re.split(r"[^\w.-]", line, maxsplit=1)[0]: line for line in project["dependencies"]}
    if unknown := without - by_name.keys():
        raise ValueError(f"no dependency of {pyproject.name}: {', '.join(sorted(unknown))}")
    return [line for name, line in by_name.items() if name not in without]


def main() -> None:
    """Print the requirements of the project in this folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without", nargs="*", default=[], metavar="PACKAGE")
    without = frozenset(parser.parse_args().without)
    for line in requirements(Path("pyproject.toml"), without):
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()

"""Names of environment variables: one that nobody reads is a misspelt one."""

import difflib
from collections.abc import Iterable

PREFIX = "ORRERY_"
# Those that are no settings of the server: of clients, of workers, of the compose files.
OTHERS = (
    *("URL", "TOKEN", "TOKEN_FILE", "WORKER_NAME", "SLOTS", "THREADS"),
    *("PUBLISH", "HOST_NAME", "SECRETS"),
)


def misspelt(present: Iterable[str], known: Iterable[str]) -> list[str]:
    """A sentence about each variable that begins as ours do and is none.

    Args:
        present: names in the environment.
        known: names of settings, without the prefix, in any case.
    """
    names = [name.upper() for name in (*known, *OTHERS)]
    found: list[str] = []
    for variable in sorted(present):
        prefix, name = variable[: len(PREFIX)].upper(), variable[len(PREFIX) :].upper()
        if prefix == PREFIX and name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
            found.append(f"nothing reads the environment variable {variable}{hint}")
    return found

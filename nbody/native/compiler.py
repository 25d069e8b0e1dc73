"""C sources → a shared library, compiled once for this machine and kept.

What is kept is named by all that it was made from: the sources, the compiler and its flags, and the
processor, for a home may be shared by machines of several kinds.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from nbody.durable_file import write_durably
from nbody.errors import CompilerFailed, CompilerMissing

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c99", "-O3", "-march=native", "-ffp-contract=fast")
QUICK_ROOTS = ("-fno-math-errno", "-fno-trapping-math")  # so that roots become vectors; same values
SHARED = ("-shared", "-fPIC")
LONGEST = 300.0  # seconds that a compiler may take


def find_compiler() -> list[str]:
    """The C compiler's command: what CC says, or the first of cc, gcc and clang.

    Raises:
        CompilerMissing
    """
    named = shlex.split(os.environ.get("CC", ""))
    for command in [named] if named else [[name] for name in COMPILERS]:
        if shutil.which(command[0]):
            return command
    raise CompilerMissing(named[0] if named else None)


def shared_library(
    sources: Sequence[Path], *, headers: Sequence[Path] = (), flags: Sequence[str] = ()
) -> Path:
    """The library of some C sources, made where it is not kept already.

    Args:
        headers: that the sources include, which lie beside them.
        flags: more of them, such as folders of other headers.

    Raises:
        CompilerMissing: no compiler.
        CompilerFailed: it refuses the sources; its first words are in the message.
    """
    compiler = find_compiler()
    options = [*FLAGS, *QUICK_ROOTS, *SHARED, *flags]
    digest = hashlib.sha256(repr((compiler, options, _compiler_version(*compiler))).encode())
    digest.update(_processor().encode())
    for path in (*sources, *headers):
        digest.update(path.read_bytes())
    kept = kept_libraries() / f"{sources[0].stem}-{digest.hexdigest()[:24]}.so"
    if not kept.exists():
        command = [*compiler, *options, *map(str, sources), "-lm", "-o"]
        write_durably(kept, lambda path: _compile([*command, str(path)]), mode=0o700)
    return kept


@lru_cache(maxsize=1)
def kept_libraries() -> Path:
    """The folder of libraries: $XDG_CACHE_HOME/orrery, or ~/.cache/orrery; one of this process's
    own where that cannot be written, or belongs to somebody else."""
    root = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(root) if root else Path.home() / ".cache") / "orrery"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="orrery-"))


def _compile(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompilerFailed(command[0], str(error)) from error
    if done.returncode:
        raise CompilerFailed(command[0], done.stderr)


@lru_cache(maxsize=4)
def _compiler_version(*command: str) -> str:
    told = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    return told.stdout


@lru_cache(maxsize=1)
def _processor() -> str:
    """What -march=native looks at."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features")))

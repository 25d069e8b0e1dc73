"""Signatures of the physics are checked at run time while its tests run: those of every module."""

from pathlib import Path

from jaxtyping import install_import_hook

import nbody

UNCHECKED = {
    "nbody.config.config",  # pydantic checks it, with types that beartype does not know
    "nbody.config.sections",
    "nbody.gravity.fused",  # a kernel's values have no Python types
}


def modules() -> list[str]:
    """Every module of the library."""
    root = Path(nbody.__file__).parent
    paths = (path.relative_to(root.parent).with_suffix("") for path in root.rglob("*.py"))
    return [".".join(path.parts) for path in paths if not path.name.startswith("__")]


install_import_hook([name for name in modules() if name not in UNCHECKED], "beartype.beartype")

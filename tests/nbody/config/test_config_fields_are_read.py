"""A Config field that nothing reads is a lie: every one is read somewhere in the product."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbody.config import Config

ROOT = Path(__file__).parents[3]
# Where fields are declared, checked and translated, which is not where they take effect.
DECLARATIONS = {"config.py", "sections.py", "original_format.py"}
# Free-form user data: kept, shown, and by definition never acted on.
NEVER_READ = {"extra"}


def _names_of_configs(node: ast.expr) -> bool:
    """Whether an expression is a config by its name: `config`, `self._config`, `run.config`."""
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name.strip("_").endswith("config")


def _reads(tree: ast.AST) -> Iterator[str]:
    """Names read from a config: `config.lr`, and `getattr(config, "lr")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            if _names_of_configs(node.value):
                yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
            read_from, name = node.args[:2]
            if _names_of_configs(read_from):
                yield from (str(part.value) for part in [name] if isinstance(part, ast.Constant))


def _read_in_the_product() -> set[str]:
    sources = [path for folder in ("nbody", "worker") for path in (ROOT / folder).rglob("*.py")]
    return {
        name
        for path in sources
        if path.name not in DECLARATIONS
        for name in _reads(ast.parse(path.read_text(encoding="utf-8")))
    }


READ = _read_in_the_product()


@pytest.mark.parametrize("field", sorted(Config.model_fields.keys() - NEVER_READ))
def test_a_config_field_is_read_somewhere(field: str) -> None:
    assert field in READ


def test_writing_a_field_or_reading_another_object_is_not_reading_it() -> None:
    source = "config.lr = 1\nparticle.dt\nself.config.seed\ngetattr(config, 'epochs')"
    assert set(_reads(ast.parse(source))) == {"seed", "epochs"}

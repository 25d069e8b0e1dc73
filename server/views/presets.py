"""Configs to begin with: files of a data folder, and those that come with the source."""

from pathlib import Path
from warnings import catch_warnings

from nbody.config import Config
from nbody.config.files import read_config_file
from nbody.errors import NBodyError
from server.wire.service import Preset

# Beside the source, or in an installed package (pyproject.toml puts them there).
OWN_FOLDERS = Path(__file__).parents[2] / "data", Path(__file__).parent / "presets"
ENDINGS = frozenset({".json", ".toml"})
MOST_BYTES, MOST_PRESETS = 2**16, 100


def preset_files(data: Path) -> dict[str, Path]:
    """Files that may be presets, by name; those of the data folder come before ours."""
    found: dict[str, Path] = {}
    for folder in (*OWN_FOLDERS, data):
        if folder.is_dir():
            files = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS)
            found |= {path.stem: path for path in files if path.stat().st_size <= MOST_BYTES}
    return found


def presets_of(data: Path) -> list[Preset]:
    """The presets of a data folder; a file that is no config is none."""
    found: list[Preset] = []
    for name, path in preset_files(data).items():
        try:
            with catch_warnings(action="ignore"):  # of an original's fields that have no place here
                fields = read_config_file(path)
            Config.model_validate(fields)
        except (ValueError, OSError, NBodyError):
            continue
        found.append(Preset(id=name, config=fields))
    return sorted(found, key=lambda preset: preset.id)[:MOST_PRESETS]

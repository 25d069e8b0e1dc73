"""Configs to begin with: files of a data folder, and those that come with the source."""

from pathlib import Path

from nbody.config import Config
from nbody.config.files import read_table
from server.wire.service import Preset

OWN_FOLDER = Path(__file__).parents[2] / "data"
ENDINGS = frozenset({".json", ".toml"})
MOST_BYTES, MOST_PRESETS = 2**16, 100


def preset_files(data: Path) -> dict[str, Path]:
    """Files that may be presets, by name; those of the data folder come before ours."""
    found: dict[str, Path] = {}
    for folder in (OWN_FOLDER, data):
        if folder.is_dir():
            files = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS)
            found |= {path.stem: path for path in files if path.stat().st_size <= MOST_BYTES}
    return found


def presets_of(data: Path) -> list[Preset]:
    """The presets of a data folder; a file that is no config is none."""
    found: list[Preset] = []
    for name, path in preset_files(data).items():
        try:
            fields = read_table(path)
            Config.model_validate(fields)
        except (ValueError, OSError):
            continue
        found.append(Preset(id=name, config=fields))
    return sorted(found, key=lambda preset: preset.id)[:MOST_PRESETS]

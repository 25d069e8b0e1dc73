"""Configs to begin with."""

import json
import tomllib
from pathlib import Path

from server.views.presets import OWN_FOLDERS, presets_of
from tests.server.conftest import OrreryServer

ROOT = Path(__file__).parents[2]


def test_the_presets_of_the_source_come_with_a_package() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    packed = wheel["targets"]["wheel"]["force-include"]
    folder = OWN_FOLDERS[1].relative_to(ROOT)
    here = {preset.id for preset in presets_of(Path("nowhere"))}
    assert {Path(path).stem for path in packed} == here - {"from_file"}
    assert all(to == str(folder / Path(path).name) for path, to in packed.items())


def test_configs_of_the_data_folder_are_presets(server: OrreryServer) -> None:
    data = server.settings.data
    (data / "mine.json").write_text(json.dumps({"epochs": 7}))
    (data / "kepler_demo.json").write_text(json.dumps({"epochs": 8}))
    (data / "none.json").write_text(json.dumps({"no_field": 7}))
    (data / "broken.json").write_text("{")
    found = {p["id"]: p["config"] for p in server.admin.get("/v1/presets").json()["data"]}
    assert found["mine"] == {"epochs": 7}
    assert found["kepler_demo"] == {"epochs": 8}  # it comes before ours
    assert {"plummer_16", "random_bound"} <= found.keys()
    assert not {"none", "broken"} & found.keys()


def test_a_later_test_has_none_of_these(server: OrreryServer) -> None:
    found = {p["id"] for p in server.admin.get("/v1/presets").json()["data"]}
    assert "mine" not in found

"""Exported steppers say in other languages what they say in torch."""

import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from nbody.checkpoint import save_checkpoint
from nbody.errors import NBodyError, NotCompilable, NotExportable
from nbody.export.__main__ import main
from nbody.export.formats import export_stepper
from nbody.native.weights import weights_of
from nbody.stepper import load_stepper
from tests.nbody.native.steppers import small_stepper as narrow_stepper

small_stepper = partial(narrow_stepper, wider=2.0)  # which knows most states of its population
STRICT = (
    *("-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)
NO_LEAKS = {"ASAN_OPTIONS": "detect_leaks=0"}  # which ptrace, where it is forbidden, cannot find


def compile_and_run(folder: Path, compiler: str, name: str = "orrery") -> str:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    sources = [f"{name}_{part}.c" for part in ("check", "vectors", "stepper")]
    built = [compiler, *STRICT, *sources, "-lm", "-o", "check"]
    subprocess.run(built, cwd=folder, check=True, timeout=120)
    return run(folder, "./check")


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **NO_LEAKS},
    )
    return f"{done.returncode} {done.stdout}{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("feature_type", ["leading_error", "dimensionless"])
def test_c_is_clean_and_agrees_with_torch(feature_type: str, compiler: str, tmp_path: Path) -> None:
    stepper, _ = small_stepper(feature_type)
    export_stepper(stepper, "c", tmp_path, calibration=0.9)
    told = compile_and_run(tmp_path, compiler)
    found = re.match(r"0 30 states, (\d+) of them strange", told)
    assert found is not None
    assert 0 < int(found[1]) < 15
    assert told.endswith("right\n")


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "silu", "gelu"])
def test_each_activation_and_an_embedding_agree(activation: str, tmp_path: Path) -> None:
    options = {"fourier_scale": 0.2, "fourier_dim": 8} if activation == "tanh" else {}
    stepper, _ = small_stepper("dimensionless", activation=activation, **options)
    export_stepper(stepper, "c", tmp_path)
    assert compile_and_run(tmp_path, "gcc").endswith("right\n")


@pytest.mark.slow
def test_a_plane_and_a_softening_agree(tmp_path: Path) -> None:
    stepper, _ = small_stepper("leading_error", dim=2, initial_conditions="random_bound")
    export_stepper(stepper, "c", tmp_path / "plane")
    assert compile_and_run(tmp_path / "plane", "gcc").endswith("right\n")
    stepper, _ = small_stepper("dimensionless", softening=0.05)
    export_stepper(stepper, "c", tmp_path / "soft")
    assert compile_and_run(tmp_path / "soft", "gcc").endswith("right\n")


@pytest.mark.slow
def test_a_wrong_weight_is_found(tmp_path: Path) -> None:
    stepper, _ = small_stepper("leading_error")
    export_stepper(stepper, "c", tmp_path)
    source = tmp_path / "orrery_stepper.c"
    values = source.read_text().partition("VALUES[] = {\n    ")
    first, _, rest = values[2].partition(",")
    source.write_text("".join([*values[:2], repr(float(first) + 1e-9), ",", rest]))
    told = compile_and_run(tmp_path, "gcc")
    assert told.startswith("1 ")
    assert "WRONG" in told


@pytest.mark.slow
def test_two_steppers_go_into_one_program_and_into_cpp(tmp_path: Path) -> None:
    for name, kind in (("near", "leading_error"), ("far", "dimensionless")):
        export_stepper(small_stepper(kind)[0], "c", tmp_path, name=name)
    main_file = tmp_path / "main.cpp"
    main_file.write_text(
        '#include "near_stepper.h"\n#include "far_stepper.h"\n'
        "int main() { return near_symmetric(1.0, 0.0) == far_symmetric(1.0, 0.0) ? 0 : 1; }\n"
    )
    for name in ("near", "far"):
        subprocess.run(["gcc", "-c", f"{name}_stepper.c"], cwd=tmp_path, check=True, timeout=120)
    compiler = shutil.which("g++") or pytest.skip("no g++ here")
    objects = ["near_stepper.o", "far_stepper.o"]
    subprocess.run(
        [compiler, "main.cpp", *objects, "-o", "both"], cwd=tmp_path, check=True, timeout=120
    )
    assert run(tmp_path, "./both").startswith("0 ")


@pytest.mark.slow
def test_fortran_agrees_with_torch(tmp_path: Path) -> None:
    if shutil.which("gfortran") is None or shutil.which("make") is None:
        pytest.skip("no gfortran or make here")
    export_stepper(small_stepper("leading_error")[0], "fortran", tmp_path)
    told = run(tmp_path, "make", "check", "FFLAGS=-std=f2008 -Wall -Wextra -Werror")
    assert "largest relative difference" in told
    assert told.startswith("0 "), told


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "silu", "gelu", "isru"])
def test_onnx_agrees_with_torch(activation: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    stepper, states = small_stepper("leading_error", activation=activation)
    (path,) = export_stepper(stepper, "onnx", tmp_path, calibration=0.5)
    features = stepper.adapter.features_of(states, torch.zeros_like(states.energy))
    session = pytest.importorskip("onnx.reference").ReferenceEvaluator(onnx.load(str(path)))
    (dt,) = session.run(None, {"features": features.numpy()})
    expected = 0.5 * stepper.model(features)[:, 0].detach().numpy()
    # The evaluator's error function is that of float32.
    np.testing.assert_allclose(dt, expected, rtol=1e-8 if activation == "gelu" else 1e-12)


def test_safetensors_holds_weights_and_config(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    stepper, _ = small_stepper("error_series", integrator="leapfrog2")
    (path,) = export_stepper(stepper, "safetensors", tmp_path)
    with safetensors.safe_open(str(path), framework="pt") as file:
        for name, values in stepper.model.state_dict().items():
            assert torch.equal(file.get_tensor(name), values)
        assert '"error_series"' in file.metadata()["config"]


def test_what_cannot_be_exported_says_why(tmp_path: Path) -> None:
    stepper, _ = small_stepper("error_series", integrator="leapfrog2")
    with pytest.raises(NotCompilable, match="error_series"):
        export_stepper(stepper, "c", tmp_path)
    with pytest.raises(NotExportable, match="prefix"):
        export_stepper(small_stepper("dimensionless")[0], "c", tmp_path, name="1; rm")
    inside = {"external_field_mass": 3.0, "external_field_position": [9.0, 0.0, 0.0]}
    with pytest.raises(NotExportable, match="external field"):
        export_stepper(small_stepper("dimensionless", **inside)[0], "c", tmp_path)


def test_the_command_writes_files_or_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stepper, _ = small_stepper("leading_error")
    checkpoint = tmp_path / "model.pt"
    save_checkpoint(checkpoint, stepper.model, config=stepper.config)
    assert main([str(checkpoint), "--to", "rebound", "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip().endswith("orrery_rebound.c")
    assert main([str(tmp_path / "no.pt"), "--to", "c"]) == 1
    assert "no.pt" in capsys.readouterr().err
    loaded = load_stepper(checkpoint)
    before = weights_of(stepper.model, "leading_error").values
    np.testing.assert_array_equal(weights_of(loaded.model, "leading_error").values, before)
    assert issubclass(NotExportable, NBodyError)

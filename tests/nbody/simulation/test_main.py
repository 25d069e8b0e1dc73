"""`python -m nbody.simulation`: rules side by side, what they cost, a picture."""

import json
from pathlib import Path

import numpy as np
import pytest

from nbody.config import Config
from nbody.simulation.__main__ import main
from nbody.training.run import TrainingRun

ORBIT = ["--set", "initial_conditions=kepler", "--set", "Nperiod=1", "--set", "dt=0.05"]


@pytest.mark.slow
def test_rules_run_side_by_side_and_are_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = Config(hidden_dims=[4], seed=1, initial_conditions="kepler")
    run = TrainingRun.start(trained)
    run.end_epoch(run.begin_epoch())
    stepper = ["--stepper", str(run.save(tmp_path / "model.pt"))]
    kept, drawn = tmp_path / "states.npz", tmp_path / "orbit.png"
    rules = ["--rule", "ml", "--rule", "fixed"]
    assert main([*ORBIT, *stepper, *rules, "--states", str(kept), "--picture", str(drawn)]) == 0
    learned, fixed = map(json.loads, capsys.readouterr().out.splitlines())
    assert (learned["rule"], fixed["rule"]) == ("ml", "fixed")
    assert fixed["final_time"] == pytest.approx(learned["final_time"])
    assert len(np.load(kept)["dt"]) == fixed["steps"] == 89
    assert drawn.stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([*ORBIT, "--rule", "ml"], "needs a trained stepper"),
        (["--set", "num_orbits=3", "--picture", "x.png"], "a picture is of one system"),
        (["nothing.json"], "nothing.json"),
        (["--set", "epoch=3"], "did you mean 'epochs'?"),
    ],
)
def test_what_cannot_run_says_why(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "told"),
    [("s.h5", "'orrery[hdf5]'"), ("s.hdf5", "h5py"), ("p.png", "'orrery[plot]'")],
)
def test_a_package_that_an_output_needs_is_asked_for_before_the_run(
    output: str,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nbody.simulation.__main__.find_spec", lambda _: None)
    option = "--picture" if output.endswith("png") else "--states"
    system = ["--set", "initial_conditions=kepler", option, str(tmp_path / output)]
    assert main(system) == 1
    shown = capsys.readouterr()
    assert told in shown.err
    assert not shown.out

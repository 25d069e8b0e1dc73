"""Figures, films, bundles and notebook objects, of jobs on a real server."""

import hashlib
import json
import re
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.client import Client
from server.results import again, bundle
from server.results.drawing import draw_panels, panels_of
from server.results.errors import BundleUnreadable, NoAccess, NoSuchJob, NothingToShow
from server.results.failures import hard_systems, training_on, violations
from server.results.films import film
from server.results.notebook import Orrery, connect
from server.results.run import Run
from server.wire.kinds import KINDS
from tests.server.conftest import OrreryServer, checkpoint, epoch_metrics
from tests.server.science import HELD_OUT, WAY, a_scored_training, a_simulation, leave, start

SCORES = {
    rule: {"efficiency": 0.9, "violation_rate": 0.01, "calibrated_efficiency": merit}
    for rule, merit in (("stepper", 0.93), ("free_fall", 0.45))
}


@pytest.fixture
def client(server: OrreryServer) -> Iterator[Client]:
    with Client(server.url, server.admin_token) as opened:
        yield opened


def play(server: OrreryServer, assignment: dict[str, Any]) -> None:
    """Do as a worker would: epochs, a checkpoint, files, an end."""
    lease = assignment["lease_id"]
    if assignment["kind"] == "train":
        total = assignment["config"]["epochs"]
        place = {"seed": str(assignment["config"].get("seed") or 77), "host": "h", "device": "cpu"}
        epochs = [epoch_metrics(n) | {"part2/efficiency": 0.5 + n / 10} for n in range(total)]
        points = [checkpoint(assignment, total - 1)]
        server.report(lease, first_epoch=0, whereabouts=place, epochs=epochs, checkpoints=points)
        leave(server, assignment, "held_out.json", HELD_OUT)
        server.finish(lease, result=SCORES)
    else:
        leave(server, assignment, "orbit.json", WAY)
        server.finish(lease, result={"force_evaluations": 10, "max_energy_error": 1e-5})


def a_paper(server: OrreryServer) -> list[str]:
    """A training whose seed was left open, and a simulation with its stepper."""
    trained, assignment = server.start(name="first", config={"epochs": 3, "seed": None})
    play(server, assignment)
    config = {"initial_conditions": "kepler", "Nperiod": 1}
    body = {"kind": "simulate", "name": "an orbit", "config": config}
    used, assignment = start(server, stepper={"job": trained["id"]}, **body)
    play(server, assignment)
    return [trained["id"], used["id"]]


def test_figures_have_axes_legends_and_what_happened(server: OrreryServer, client: Client) -> None:
    job, assignment = server.start(name="eventful", config={"epochs": 4})
    server.report(assignment["lease_id"], first_epoch=0, epochs=[epoch_metrics(n) for n in (0, 1)])
    server.admin.post(f"/v1/jobs/{job['id']}/pause")
    server.finish(assignment["lease_id"], "stopped", "user")
    panels = panels_of([Run(client, job["id"])])
    figure = draw_panels(panels)
    assert len(figure.axes) >= len(panels) == 3
    for axes in figure.axes[:3]:
        assert axes.get_xlabel() == "epoch"
        assert axes.get_ylabel().startswith("part2/")
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["eventful"]
        assert "paused" in [text.get_text() for text in axes.texts]


def test_jobs_of_one_name_are_told_apart(server: OrreryServer, client: Client) -> None:
    jobs = []
    for _ in range(2):
        job, assignment = server.start(name="twin", config={"epochs": 1})
        server.report(assignment["lease_id"], first_epoch=0, epochs=[epoch_metrics(0)])
        server.finish(assignment["lease_id"])
        jobs.append(job["id"])
    figure = draw_panels(panels_of([Run(client, each) for each in jobs], ["epoch_time"]))
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == [f"twin …{each[-5:]}" for each in jobs]


def test_what_is_not_there_is_told(server: OrreryServer, client: Client) -> None:
    waits = Run(client, server.submit(name="waits")["id"])
    with pytest.raises(NothingToShow, match="nothing to draw"):
        panels_of([waits])
    with pytest.raises(NothingToShow, match="none of these jobs has metrics"):
        panels_of([waits], ["epoch_time"])
    with pytest.raises(NothingToShow, match="waits has no orbit"):
        film(waits, Path("x.mp4"))
    with pytest.raises(NothingToShow, match="waits is queued"):
        bundle.write_bundle(client, [waits.id], Path("x.zip"), "x")
    with pytest.raises(NothingToShow, match="waits is queued: it has no scores"):
        violations(waits)
    with pytest.raises(NothingToShow, match="no metric 'part2/efficient'; there is part2/effic"):
        panels_of([waits], ["part2/efficient"])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "begins"), [("a.mp4", b"ftyp"), ("a.gif", b"GIF89a")])
def test_a_film_lasts_as_long_as_it_should(
    server: OrreryServer, client: Client, tmp_path: Path, name: str, begins: bytes
) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    run = Run(client, a_simulation(server, "moving", forces=10, error=1e-5)["id"])
    path = film(run, tmp_path / name, seconds=1.0, rate=8)
    assert begins in path.read_bytes()[:12]
    asked = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "null", "-"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stderr
    assert re.findall(r"frame= *(\d+)", told)[-1] == "8"
    with pytest.raises(ValueError, match=r"\.mp4 or \.gif"):
        film(run, tmp_path / "a.avi")


@pytest.mark.slow
def test_a_bundle_holds_everything_and_names_it(
    server: OrreryServer, client: Client, tmp_path: Path
) -> None:
    ids = a_paper(server)
    path = tmp_path / "paper.zip"
    manifest = bundle.write_bundle(client, ids, path, "A paper")
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert json.loads(files.pop("manifest.json")) == manifest
    assert manifest["files"] == {n: hashlib.sha256(d).hexdigest() for n, d in files.items()}
    trained, used = manifest["jobs"]
    assert trained["seed"] == 77
    assert used["stepper"]["job"] == ids[0]
    assert used["stepper"]["epoch"] == 2
    expected = {
        *("configs/first.json", "configs/an-orbit.json", "tables/scores.csv", "tables/scores.tex"),
        *(
            "tables/metrics/first.csv",
            "files/first/model_epoch_0002.pt",
            "files/an-orbit/orbit.json",
        ),
        *("files/an-orbit/stepper.pt", "figures/part2_efficiency.svg", "CITATION.cff", "README.md"),
        *("figures/first_eta.pdf", "figures/an-orbit_orbit.png", "figures/an-orbit_energy.svg"),
    }
    assert expected <= files.keys()
    assert b"an orbit,reversible,10,1e-05" in files["tables/simulations.csv"]
    assert b"stepper,0.9,0.01,0.93" in files["tables/scores.csv"]
    assert rb"free\_fall & 0.9 & 0.01 & 0.45" in files["tables/scores.tex"]
    assert b"part2/efficiency" in files["figures/part2_efficiency.svg"]
    twice = tmp_path / "twice.zip"
    bundle.write_bundle(client, ids, twice, "A paper")
    assert twice.read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_jobs_whose_names_look_alike_keep_all_their_figures(
    server: OrreryServer, client: Client, tmp_path: Path
) -> None:
    ids = [a_scored_training(server, name)["id"] for name in ("a/b", "a b", "-ü", r"$\frac{x}$")]
    manifest = bundle.write_bundle(client, ids, tmp_path / "x.zip", "x")
    figures = [name for name in manifest["files"] if name.endswith(".svg")]
    assert len([name for name in figures if "eta" in name]) == len(ids)
    assert not [name for name in manifest["files"] if "/-" in name or "/_" in name]


def work_through(server: OrreryServer, jobs: int) -> threading.Thread:
    """A worker, for so many jobs."""

    def work() -> None:
        worker = server.register()
        for number in range(jobs):
            body = {"claim_id": f"again-{number}", "kinds": list(KINDS), "wait_s": 20}
            answer = server.worker.post(f"/v1/workers/{worker}/claim", json=body)
            play(server, answer.json())

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_bundle_is_made_again_from_its_own_manifest(
    server: OrreryServer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "paper.zip"
    bundle.write_bundle(client, a_paper(server), path, "A paper")
    worker = work_through(server, 2)
    lines: list[str] = []
    assert again.make_again(client, path, tmp_path / "again.zip", lines.append) == []
    worker.join()
    assert [line.split()[0] for line in lines] == ["first", "an"]
    listed = [job["name"] for job in client.jobs(limit=2)["data"]]
    assert sorted(listed) == ["an orbit, again", "first, again"]
    trained, used = bundle.read_manifest(tmp_path / "again.zip")["jobs"]
    assert trained["config"]["seed"] == 77  # which the first training had drawn
    assert used["stepper"]["job"] == trained["id"]
    monkeypatch.setitem(SCORES["stepper"], "efficiency", 0.91)
    worker = work_through(server, 2)
    found = again.make_again(client, path, tmp_path / "other.zip", lines.append)
    worker.join()
    assert [(d.job, d.place, d.was, d.now) for d in found] == [
        ("first", "result/stepper/efficiency", 0.9, 0.91)
    ]


@pytest.mark.slow
def test_a_bundle_brings_the_system_that_its_user_sent(
    server: OrreryServer, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("1 0 0 0 0\n0.5 1 0 0 1.2\n")
    sent = client.send_initial_conditions(tmp_path / "mine.txt")
    config = {"initial_conditions": "file", "ic_path": sent["path"], "dt": 0.01}
    job, assignment = start(server, kind="simulate", name="mine", config=config)
    play(server, assignment)
    path = tmp_path / "mine.zip"
    [told] = bundle.write_bundle(client, [job["id"]], path, "Mine")["jobs"]
    assert told["begins_with"] == "files/mine/mine.txt"
    client.delete_file(sent["id"])  # as on a server that never had it
    worker = work_through(server, 1)
    again.make_again(client, path, tmp_path / "again.zip", lambda _: None)
    worker.join()
    [made] = bundle.read_manifest(tmp_path / "again.zip")["jobs"]
    assert made["config"]["ic_path"] != sent["path"]
    assert made["begins_with"] == "files/mine-again/mine.txt"


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"nothing")
    with pytest.raises(BundleUnreadable, match="is no bundle"):
        bundle.read_manifest(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", "[]")
    with pytest.raises(BundleUnreadable, match="another version"):
        bundle.read_manifest(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps({"format": 1, "files": {"a": "0" * 64}}))
        archive.writestr("a", "changed")
    manifest = bundle.read_manifest(path)
    with pytest.raises(BundleUnreadable, match="sha256 differs"):
        bundle.read_member(path, manifest, "a")
    with pytest.raises(BundleUnreadable, match="lacks b"):
        bundle.read_member(path, manifest, "b")


def test_violations_are_listed_the_worst_first(server: OrreryServer, client: Client) -> None:
    run = Run(client, a_scored_training(server)["id"])
    found = violations(run)
    assert [state["energy_error"] for state in found] == [1e-3, 5e-4, 3e-4]
    assert [state["system"] for state in found] == [7, 3, 7]
    assert len(hard_systems(run)) == 3
    changes = training_on(run, run.job["config"])
    assert changes["resample_each_epoch"] is True
    job = client.retry(run.id, config=changes)
    assert job["config"]["hard_systems"] == hard_systems(run)


def test_a_notebook_shows_jobs(server: OrreryServer, client: Client) -> None:
    job = a_scored_training(server, "<b>bold</b>")
    orrery = Orrery(client)
    run = orrery[job["id"][-8:]]
    assert repr(run) == "<train '<b>bold</b>': succeeded, 1 of 1 epochs>"
    card = run._repr_html_()
    assert "&lt;b&gt;bold&lt;/b&gt;" in card
    assert "stepper, calibrated_efficiency" in card
    assert "0.93" in card
    frame = run.frame()
    assert list(frame.index) == [0]
    assert frame["part2/efficiency"].iloc[0] == 0.9
    listed = orrery.jobs(columns=["config/lr"], kind="train")
    assert listed["config/lr"].tolist() == [0.002]
    assert listed["epochs_done"].tolist() == [1]
    assert len(orrery.plot(job["id"]).axes) >= 5
    with pytest.raises(NoSuchJob, match="no job has the name"):
        orrery["nobody"]


def test_states_are_arrays(server: OrreryServer, client: Client, tmp_path: Path) -> None:
    import numpy as np

    run = Orrery(client)[a_scored_training(server)["id"]]
    with pytest.raises(NothingToShow, match="has no states"):
        run.states()
    np.savez(tmp_path / "simulation.npz", time=np.arange(3.0), position=np.zeros((3, 2, 2)))
    run.__dict__["artifacts"] = {"simulation.npz": {"id": "file_x"}}
    data = (tmp_path / "simulation.npz").read_bytes()
    run.file = lambda _: data  # type: ignore[method-assign]
    assert run.states()["position"].shape == (3, 2, 2)


def test_a_notebook_says_why_it_is_not_let_in(
    server: OrreryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORRERY_TOKEN", raising=False)
    with pytest.raises(NoAccess, match="does not take the token; it is from the argument"):
        connect(server.url, "orrery_wrong")
    with pytest.raises(NoAccess, match="asks for a token, and there is none"):
        connect(server.url, data=tmp_path)
    monkeypatch.setenv("ORRERY_URL", server.url)
    orrery = connect(data=server.settings.data)
    assert repr(orrery) == f"<Orrery at {server.url}>"
    simulated = orrery[a_simulation(server, "orbit", forces=10, error=1e-5)["id"]]
    with pytest.raises(NothingToShow, match="orbit has no epochs"):
        simulated.frame()
    assert "max_energy_error" in simulated._repr_html_()
    orrery.client.close()

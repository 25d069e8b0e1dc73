"""Figures, films, bundles, failures and notes on the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.conftest import OrreryServer, assert_problem, checkpoint, epoch_metrics
from tests.server.science import a_scored_training, a_simulation

Orrery = Callable[..., Any]


@pytest.mark.slow
def test_jobs_are_drawn_and_packed(server: OrreryServer, orrery: Orrery, tmp_path: Path) -> None:
    a_scored_training(server, "first")
    a_simulation(server, "orbit", forces=10, error=1e-5)
    figure, paper = tmp_path / "a.svg", tmp_path / "paper.zip"
    assert orrery("plot", "first", "orbit", "-o", str(figure)).out.strip() == str(figure)
    assert figure.read_text().startswith("<?xml")
    assert orrery("bundle", "first", "orbit", "-o", str(paper)).code == 0
    assert paper.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["plot", "first", "-o", "a.doc"], 2, ".svg, .pdf, .png"),
        (["plot", "nobody", "-o", "a.svg"], 4, "no job has the name or the id 'nobody'"),
        (["plot", "first", "-o", "a.svg", "--key", "part2/eff"], 2, "there is no metric"),
        (["plot", "first", "-o", "nowhere/a.svg"], 2, "there is no folder nowhere"),
        (["movie", "first", "-o", "a.mp4"], 2, "first has no orbit"),
        (["movie", "first", "-o", "nowhere/a.mp4"], 2, "there is no folder nowhere"),
        (["bundle", "-o", "a.zip"], 2, "name jobs, or --again"),
        (["bundle", "first", "--again", "b.zip", "-o", "a.zip"], 2, "name jobs, or --again"),
        (["bundle", "--again", "b.zip", "-o", "a.zip"], 2, "b.zip: No such file"),
        (["bundle", "waits", "-o", "a.zip"], 2, "waits is queued: a bundle is of what succeeded"),
        (["bundle", "first", "-o", "nowhere/a.zip"], 2, "there is no folder nowhere"),
        (["failures", "waits"], 2, "waits is queued: it has no scores"),
        (["retry", "first", "--train-on", "waits"], 2, "waits is queued: it has no scores"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    server: OrreryServer,
    orrery: Orrery,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    a_scored_training(server, "first")
    server.submit(name="waits")
    done = orrery(*words)
    assert done.code == code
    assert message in done.err
    assert list(tmp_path.iterdir()) == []


def test_failures_are_listed_and_learned(server: OrreryServer, orrery: Orrery) -> None:
    job = a_scored_training(server, "first")
    rows = orrery("failures", "first").out.splitlines()
    assert len(rows) == 4
    assert rows[1].split()[:5] == ["7", "0", "0.9000", "1.00e-03", "2.00e-04"]
    again = orrery("retry", "first", "--train-on", "first", "--set", "hard_share=0.5")
    config = server.job(again.out.strip())["config"]
    assert len(config["hard_systems"]) == 3
    assert (config["hard_share"], config["resample_each_epoch"]) == (0.5, True)
    assert server.job(job["id"])["config"]["hard_systems"] is None


def test_notes_are_written_and_shown(server: OrreryServer, orrery: Orrery) -> None:
    job = server.submit(name="noted")
    assert orrery("notes", "noted").out == "\n"
    assert orrery("notes", "noted", "width 64 is enough").code == 0
    assert orrery("notes", "noted", "see [figure 3]", "--append").code == 0
    assert orrery("notes", "noted").out == "width 64 is enough\nsee [figure 3]\n"
    assert "see [figure 3]" in orrery("show", "noted").out
    changed = server.admin.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    assert changed[-1]["data"] == {"notes": "33 characters"}


@pytest.mark.parametrize("notes", ["\x00", "a\x1bb", "x" * 10_001, 3])
def test_notes_are_text(server: OrreryServer, notes: Any) -> None:
    job = server.submit()
    answer = server.admin.patch(f"/v1/jobs/{job['id']}", json={"notes": notes})
    assert assert_problem(answer, 422)["errors"][0]["pointer"] == "/notes"


def test_an_event_says_the_last_epoch(server: OrreryServer) -> None:
    job, assignment = server.start(config={"epochs": 4})
    lease = assignment["lease_id"]
    server.report(
        lease,
        first_epoch=0,
        epochs=[epoch_metrics(n) for n in (0, 1)],
        checkpoints=[checkpoint(assignment, 1)],
    )
    server.admin.post(f"/v1/jobs/{job['id']}/pause")
    server.finish(lease, "stopped", "user")
    events = server.admin.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    last = {event["type"]: event["data"].get("epoch") for event in events}
    assert last["paused"] == last["checkpoint"] == 1
    assert last["submitted"] is None

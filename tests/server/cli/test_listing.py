"""`orrery jobs`: which, in what order, with which columns; and users' texts as they are."""

import json
from datetime import UTC, datetime

import pytest

from server.cli.instants import since_when
from tests.server.conftest import Orrery, OrreryServer, epoch_metrics

NOW = datetime(2026, 3, 8, 12, 0, tzinfo=UTC)
RIDDLE = "[/x] [red]b[/red] :smile: \\[ =1+1"


def train(server: OrreryServer, name: str, efficiency: float) -> None:
    _, assignment = server.start(name=name, config={"epochs": 1})
    epoch = epoch_metrics(0) | {"part2/efficiency": efficiency}
    server.report(assignment["lease_id"], first_epoch=0, epochs=[epoch])
    server.finish(assignment["lease_id"])


def test_jobs_are_sorted_filtered_and_shown_with_columns(
    server: OrreryServer, orrery: Orrery
) -> None:
    for name, efficiency in (("one", 0.5), ("two", 0.75), ("three", 0.25)):
        train(server, name, efficiency)
    best = "part2/efficiency:best"
    shown = orrery(
        "jobs", "--sort", f"-{best}", "--columns", f"{best},config/lr", "--filter", "name=t*"
    )
    lines = shown.out.splitlines()
    assert best in lines[0]
    assert "config/lr" in lines[0]
    assert [line.split()[1] for line in lines[1:]] == ["two", "three"]
    assert "0.75" in lines[1]
    as_csv = orrery("jobs", "--csv", "--columns", best, "--sort", "name", "--kind", "train")
    assert as_csv.out.splitlines()[0].endswith(f",{best}")
    assert [line.split(",")[1] for line in as_csv.out.splitlines()[1:]] == ["one", "three", "two"]
    assert not json.loads(orrery("jobs", "--kind", "simulate", "--json").out)["data"]
    assert len(json.loads(orrery("jobs", "--since", "1h", "--json").out)["data"]) == 3


def test_an_unknown_column_says_which_there_are(server: OrreryServer, orrery: Orrery) -> None:
    done = orrery("jobs", "--sort", "part2/efficiencyy")
    assert done.code
    assert "did you mean 'part2/efficiency'" in done.err


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("30m", "2026-03-08T11:30:00+00:00"),
        ("7d", "2026-03-01T12:00:00+00:00"),
        ("2026-03-01T00:00:00+00:00", "2026-03-01T00:00:00+00:00"),
    ],
)
def test_since_is_an_age_or_a_date(text: str, instant: str) -> None:
    since = datetime.fromisoformat(since_when(text, NOW))
    assert since == datetime.fromisoformat(instant)


def test_since_says_what_it_takes() -> None:
    with pytest.raises(ValueError, match="use 30m"):
        since_when("yesterday", NOW)


def test_names_and_labels_are_printed_as_they_are(server: OrreryServer, orrery: Orrery) -> None:
    job = server.submit(name=RIDDLE, metadata={"note": RIDDLE})
    for command in (
        ["jobs"],
        ["queue"],
        ["show", job["id"]],
        ["jobs", "--columns", "metadata/note"],
        ["cancel", job["id"]],
        ["watch", job["id"]],
    ):
        done = orrery(*command)
        assert "Traceback" not in done.err
        assert RIDDLE in done.out or command[0] == "cancel", command


def test_top_shows_what_runs_waits_and_ended(server: OrreryServer, orrery: Orrery) -> None:
    train(server, "finished", 0.75)
    server.start(name="going")
    server.submit(name="stuck", config={"device": "cuda"})
    shown = orrery("top", "--once").out
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert "0/4" in lines["going"]
    assert "GPU" in lines["stuck"]
    assert "0.750" in lines["finished"]
    assert "slots busy" in shown


def test_top_says_where_nothing_runs(server: OrreryServer, orrery: Orrery) -> None:
    assert "nothing runs" in orrery("top", "--once").out

"""Commands that stop jobs, go on with them or take them away: one, or many in one request."""

import json

import pytest

from tests.server.conftest import Orrery, OrreryServer


def statuses(server: OrreryServer) -> dict[str, str]:
    return {j["name"]: j["status"] for j in server.admin.get("/v1/jobs").json()["data"]}


def test_jobs_are_called_by_name_or_by_a_part_of_their_id(
    server: OrreryServer, orrery: Orrery
) -> None:
    first, second = server.submit(name="first"), server.submit(name="second")
    done = orrery("cancel", "first", second["id"][-9:])
    assert (done.code, done.out.count("cancelled")) == (0, 2)
    assert orrery("show", "second", "--json").out.count(second["id"])
    assert orrery("compare", "first", second["id"][-9:]).code == 0
    assert json.loads(orrery("show", first["id"][4:], "--json").out)["name"] == "first"


@pytest.mark.parametrize(
    ("called", "told"),
    [("twin", "'twin' is several jobs: job_"), ("nobody", "no job has the name or the id 'nob")],
)
def test_a_name_that_means_no_job_or_several_says_so(
    called: str, told: str, server: OrreryServer, orrery: Orrery
) -> None:
    for _ in range(2):
        server.submit(name="twin")
    done = orrery("cancel", called)
    assert done.code == 4
    assert told in done.err
    assert set(statuses(server).values()) == {"queued"}


def test_many_jobs_stop_in_one_request(server: OrreryServer, orrery: Orrery) -> None:
    for n in range(5):
        server.submit(name=f"x{n}", metadata={"paper": "draft"})
    server.submit(name="y")
    assert orrery("pause", "--label", "paper=draft", "--dry-run").out.count("queued") == 5
    assert orrery("pause", "--name", "x*").out.count("paused") == 5
    assert orrery("resume", "--label", "paper=draft").out.count("queued") == 5
    done = orrery("cancel", "--status", "queued", "--json")
    assert done.out, done.err
    assert len(json.loads(done.out)) == 6
    again = orrery("retry", "--name", "x*", "--set", "epochs=9")
    assert again.out.count(": job_") == 5
    assert orrery("delete", "--status", "cancelled", "--files").out.count("deleted") == 6
    assert sorted(statuses(server)) == ["x0", "x1", "x2", "x3", "x4"]


def test_what_cannot_be_done_is_told_and_the_rest_is_done(
    server: OrreryServer, orrery: Orrery
) -> None:
    over, assignment = server.start(name="over")
    server.finish(assignment["lease_id"])
    waiting = server.submit(name="waiting")
    done = orrery("cancel", over["id"], waiting["id"])
    assert done.code == 1
    assert "succeeded" in done.err
    assert statuses(server)["waiting"] == "cancelled"


@pytest.mark.parametrize("arguments", [[], ["job", "--status", "queued"], ["--label", "x"]])
def test_jobs_must_be_named_in_one_way(
    arguments: list[str], server: OrreryServer, orrery: Orrery
) -> None:
    server.submit(name="job")
    done = orrery("cancel", *arguments)
    assert done.code == 2
    assert statuses(server) == {"job": "queued"}


def test_labels_change_one_by_one(server: OrreryServer, orrery: Orrery) -> None:
    job = server.submit(name="labelled", metadata={"a": "1", "b": "2"})
    orrery("change", "labelled", "--add-label", "c=3", "--remove-label", "a")
    assert server.job(job["id"])["metadata"] == {"b": "2", "c": "3"}

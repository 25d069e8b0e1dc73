"""Things done to many jobs at once, and which jobs a filter means."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from server.client import Client
from server.database.tables import jobs
from tests.server.conftest import OrreryServer, assert_problem

Json = dict[str, Any]
CHECKPOINT = "ckpt_" + "0" * 26


def act(server: OrreryServer, action: str, **body: Any) -> Json:
    answer = server.admin.post("/v1/jobs/actions", json={"action": action, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def listed(server: OrreryServer, **query: Any) -> list[str]:
    return [job["name"] for job in server.admin.get("/v1/jobs", params=query).json()["data"]]


def test_named_jobs_are_cancelled_each_for_itself(server: OrreryServer) -> None:
    running, assignment = server.start()
    over, other = server.start()
    server.finish(other["lease_id"])
    waiting = server.submit()
    ids = [running["id"], over["id"], "job_" + "0" * 26, waiting["id"], waiting["id"]]
    found = act(server, "cancel", ids=ids)
    states = ["cancelling", "succeeded", None, "cancelled"]
    assert [job["status"] for job in found["data"]] == states
    assert [bool(job["problem"]) for job in found["data"]] == [False, True, True, False]
    assert "There is no job" in found["data"][2]["problem"]
    assert server.report(assignment["lease_id"]).json()["command"]["action"] == "cancel"
    audited = server.admin.get("/v1/audit", params={"target": waiting["id"]}).json()["data"]
    assert audited[0]["action"] == "job.cancel"


def test_a_filter_means_the_jobs_that_it_can_be_done_to(server: OrreryServer) -> None:
    mine = [server.submit(name=f"a-{n}", metadata={"paper": "draft"}) for n in range(3)]
    server.submit(name="b", metadata={"paper": "other"})
    draft = {"metadata": {"paper": "draft"}}
    act(server, "pause", ids=[mine[0]["id"]])
    assert len(act(server, "pause", where=draft, dry_run=True)["data"]) == 2
    assert server.job(mine[1]["id"])["status"] == "queued"
    assert len(act(server, "resume", where=draft)["data"]) == 1
    assert {job["status"] for job in act(server, "cancel", where=draft)["data"]} == {"cancelled"}
    again = act(server, "retry", where={"name": "a-*"}, retry={"config": {"epochs": 7}})["data"]
    assert [server.job(job["new_job"])["config"]["epochs"] for job in again] == [7, 7, 7]
    gone = act(server, "delete", where={"status": ["cancelled"]}, files=True)["data"]
    assert {job["status"] for job in gone} == {None}
    assert sorted(listed(server)) == ["a-0", "a-1", "a-2", "b"]  # the retries, and another


def test_nobody_acts_on_jobs_that_they_may_not_see(server: OrreryServer) -> None:
    theirs = server.submit()
    with server.new_client("user") as user:
        body = {"action": "cancel", "ids": [theirs["id"]]}
        assert "no job" in user.post("/v1/jobs/actions", json=body).json()["data"][0]["problem"]
        body = {"action": "cancel", "where": {"status": ["queued"]}}
        assert user.post("/v1/jobs/actions", json=body).json()["data"] == []
    assert server.job(theirs["id"])["status"] == "queued"


@pytest.mark.parametrize(
    "body",
    [
        {"action": "cancel"},
        {"action": "cancel", "where": {}},
        {"action": "delete", "where": {"status": []}},
        {"action": "cancel", "ids": ["job_" + "0" * 26], "where": {"name": "x"}},
        {"action": "explode", "ids": ["job_" + "0" * 26]},
        {"action": "cancel", "ids": ["../x"]},
        {"action": "cancel", "where": {"title": "x"}},
        {"action": "retry", "where": {"name": "x"}, "retry": {"from_checkpoint": CHECKPOINT}},
    ],
)
def test_what_means_no_jobs_or_all_of_them_is_refused(server: OrreryServer, body: Json) -> None:
    job = server.submit()
    assert_problem(server.admin.post("/v1/jobs/actions", json=body), 422, "invalid_request")
    assert server.job(job["id"])["status"] == "queued"


def test_of_more_than_a_thousand_the_rest_is_asked_for_again(server: OrreryServer) -> None:
    first = server.submit(name="many")

    def copy(connection: Any) -> None:
        found = connection.execute(select(jobs).where(jobs.c.id == first["id"]))
        row = dict(found.mappings().one())
        rows = [row | {"id": f"job_{n:026d}"} for n in range(1200)]
        connection.execute(insert(jobs), rows)

    server.write(copy)
    found = act(server, "cancel", where={"name": "many"}, dry_run=True)
    assert (len(found["data"]), found["has_more"]) == (1000, True)
    with Client(str(server.admin.base_url), server.admin_token) as client:
        acted = list(client.act("cancel", where={"name": "many"}))
    assert len({job["id"] for job in acted}) == 1201
    assert {job["status"] for job in acted} == {"cancelled"}


def test_jobs_are_listed_by_wildcards_parts_of_ids_and_age(server: OrreryServer) -> None:
    first = server.submit(name="run [1]?")
    server.submit(name="run two")
    assert listed(server, name="run*") == ["run two", "run [1]?"]
    assert listed(server, name="run [1]*") == ["run [1]?"]
    assert listed(server, name="run [1]?") == ["run [1]?"]
    assert listed(server, name="run ?*o") == []
    for part in (first["id"], first["id"][4:], first["id"][-8:]):
        assert listed(server, id=part) == ["run [1]?"]
    now = datetime.now(UTC)
    assert listed(server, created_before=(now - timedelta(hours=1)).isoformat()) == []
    assert len(listed(server, created_before=(now + timedelta(hours=1)).isoformat())) == 2


def test_labels_are_set_and_taken_away_one_by_one(server: OrreryServer) -> None:
    job = server.submit(metadata={"a": "1", "b": "2"})

    def change(**body: Any) -> Any:
        return server.admin.patch(f"/v1/jobs/{job['id']}", json=body)

    assert change(add_metadata={"c": "3", "a": "4"}).json()["metadata"] == {
        "a": "4",
        "b": "2",
        "c": "3",
    }
    assert change(remove_metadata=["b", "zzz"]).json()["metadata"] == {"a": "4", "c": "3"}
    many = {f"k{n}": "" for n in range(31)}
    assert_problem(change(add_metadata=many), 422, "invalid_request")
    assert server.job(job["id"])["metadata"] == {"a": "4", "c": "3"}

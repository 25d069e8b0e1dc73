"""Lists of jobs with what users choose: columns, order, conditions, groups, CSV."""

import csv
import io
from typing import Any

import pytest

from tests.server.conftest import TINY, OrreryServer, epoch_metrics


def trained(server: OrreryServer, name: str, values: list[float | None], **body: Any) -> str:
    """A job that ran, with an efficiency for each epoch."""
    config = {**TINY, "epochs": len(values)}
    job, assignment = server.start(name=name, config=config, **body)
    epochs = [
        epoch_metrics(epoch) | {"part2/efficiency": value} for epoch, value in enumerate(values)
    ]
    server.report(assignment["lease_id"], first_epoch=0, epochs=epochs)
    server.finish(assignment["lease_id"])
    return job["id"]


def listed(server: OrreryServer, **query: Any) -> list[dict[str, Any]]:
    answer = server.admin.get("/v1/jobs", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def names(server: OrreryServer, **query: Any) -> list[str]:
    return [job["name"] for job in listed(server, **query)]


@pytest.fixture
def population(server: OrreryServer) -> OrreryServer:
    trained(server, "good", [0.5, 0.9, 0.8], metadata={"seed": "10"})
    trained(server, "poor", [0.2, None, 0.1], metadata={"seed": "9"})
    trained(server, "mute", [None])
    server.submit(name="waiting")
    return server


def test_lists_show_metrics_configs_labels_and_owners(population: OrreryServer) -> None:
    columns = ["part2/efficiency", "part2/efficiency:best", "part2/efficiency:min"]
    columns += ["config/epochs", "config/hidden_dims", "metadata/seed", "owner", "result/none"]
    good = listed(population, columns=columns, name="good")[0]
    assert good["owner"] == "admin (file)"
    assert list(good["values"].values())[:3] == [0.8, 0.9, 0.5]
    assert good["values"]["config/hidden_dims"] == population.submit()["config"]["hidden_dims"]
    assert good["values"]["metadata/seed"] == "10"
    assert good["values"]["result/none"] is None
    poor = listed(population, columns=columns[:3], name="poor")[0]
    assert list(poor["values"].values()) == [0.1, 0.2, 0.1]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("-part2/efficiency:max", ["good", "poor", "waiting", "mute"]),
        ("part2/efficiency:max", ["poor", "good", "waiting", "mute"]),
        ("name", ["good", "mute", "poor", "waiting"]),
        ("-created_at", ["waiting", "mute", "poor", "good"]),
        ("metadata/seed", ["good", "poor", "waiting", "mute"]),
        ("config/epochs", ["mute", "poor", "good", "waiting"]),
    ],
)
def test_lists_are_sorted_part_by_part(
    population: OrreryServer, sort: str, expected: list[str]
) -> None:
    assert names(population, sort=sort) == expected
    last, seen = None, []
    while len(seen) < len(expected):
        part = listed(population, sort=sort, limit=1, **({"after": last} if last else {}))
        seen.append(part[0]["name"])
        last = part[0]["id"]
    assert seen == expected
    assert not listed(population, sort=sort, limit=1, after=last)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["part2/efficiency:max>0.5"], ["good"]),
        (["part2/efficiency:max<=0.2"], ["poor"]),
        (["part2/efficiency=null"], ["waiting", "mute"]),
        (["part2/efficiency!=null", "status=succeeded"], ["poor", "good"]),
        (["name=*o*", "name!=poor"], ["good"]),
        (["metadata/seed>9.5"], ["good"]),
        (["metadata/seed=9"], ["poor"]),
        (["metadata/seed!=9"], ["waiting", "mute", "good"]),
        (["config/optimizer=adam"], ["waiting", "mute", "poor", "good"]),
        (["config/hidden_dims=[1]"], []),
        (["created_at>2020-01-01T00:00Z", "attempt = 0"], ["waiting"]),
        (["owner=adm*", "runtime_s>=0"], ["mute", "poor", "good"]),
        (["result/efficiency>0.1"], []),
    ],
)
def test_lists_are_filtered_by_any_column(
    population: OrreryServer, conditions: list[str], expected: list[str]
) -> None:
    assert names(population, filter=conditions) == expected


def test_what_a_filter_means_can_be_acted_on(population: OrreryServer) -> None:
    where = {"filter": ["part2/efficiency:max<0.5"]}
    body = {"action": "delete", "where": where}
    assert len(population.admin.post("/v1/jobs/actions", json=body).json()["data"]) == 1
    assert names(population) == ["waiting", "mute", "good"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"sort": "-part2/efficiencyy"}, "did you mean 'part2/efficiency'"),
        ({"columns": "config/lrr"}, "did you mean 'lr'"),
        ({"columns": "part2/efficiency:mean"}, ":best"),
        ({"filter": "status"}, "COLUMN OPERATOR VALUE"),
        ({"filter": "part2/efficiency>good"}, "compared with a number"),
        ({"filter": "created_at>yesterday"}, "with a time zone"),
        ({"filter": "priority>1e999"}, "compared with a number"),
        ({"filter": "config/lr>NaN"}, "compared with a number"),
        ({"columns": "result/x'\"); DROP TABLE jobs"}, "no such column"),
        ({"filter": "name=" + "a" * 300}, "at most 300"),
    ],
)
def test_what_cannot_be_asked_for_says_what_can(
    server: OrreryServer, query: dict[str, str], told: str
) -> None:
    answer = server.admin.get("/v1/jobs", params=query)
    assert answer.status_code == 422
    assert told in answer.json()["errors"][0]["detail"]


def test_a_new_attempt_takes_superseded_epochs_out_of_the_summary(server: OrreryServer) -> None:
    server.move_leases_to_test_clock()
    job, assignment = server.start(name="again")
    values = [0.5, 0.9, 0.7]
    epochs = [epoch_metrics(n) | {"part2/efficiency": value} for n, value in enumerate(values)]
    server.report(assignment["lease_id"], first_epoch=0, epochs=epochs)
    server.lose_leases()
    again = server.claim()
    assert again is not None
    server.report(again["lease_id"], first_epoch=1)
    columns = ["part2/efficiency", "part2/efficiency:max"]
    assert listed(server, columns=columns)[0]["values"] == dict.fromkeys(columns, 0.5)
    late = epoch_metrics(1) | {"part2/efficiency": 0.4}
    server.report(again["lease_id"], first_epoch=1, epochs=[late])
    found = listed(server, columns=columns)[0]
    assert list(found["values"].values()) == [0.4, 0.5]
    assert found["id"] == job["id"]


def test_groups_tell_mean_and_spread(population: OrreryServer) -> None:
    query = {"by": "status", "columns": ["part2/efficiency:max", "name"]}
    found = population.admin.get("/v1/jobs/groups", params=query).json()["data"]
    assert [(each["group"]["status"], each["jobs"]) for each in found] == [
        ("succeeded", 3),
        ("queued", 1),
    ]
    spread = found[0]["values"]["part2/efficiency:max"]
    assert spread["count"] == 2
    assert spread["mean"] == pytest.approx(0.55)
    assert spread["std"] == pytest.approx(0.35 * 2**0.5)
    assert found[0]["values"]["name"]["count"] == 0
    assert found[1]["values"]["part2/efficiency:max"]["std"] is None


def test_users_group_and_sort_only_their_own(population: OrreryServer) -> None:
    user = population.new_client("user")
    assert user.get("/v1/jobs/groups", params={"by": "status"}).json()["data"] == []
    assert user.get("/v1/jobs", params={"sort": "name"}).json()["data"] == []
    foreign = listed(population)[0]["id"]
    assert user.get("/v1/jobs", params={"sort": "name", "after": foreign}).status_code == 404


def test_lists_come_as_csv_that_no_spreadsheet_computes(population: OrreryServer) -> None:
    population.submit(name="=cmd|' /C calc'!A0")
    query = {"format": "csv", "columns": ["part2/efficiency:max", "config/lr"]}
    answer = population.admin.get("/v1/jobs", params=query)
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["name"] for row in rows] == [
        "'=cmd|' /C calc'!A0",
        "waiting",
        "mute",
        "poor",
        "good",
    ]
    assert rows[-1]["part2/efficiency:max"] == "0.9"
    groups = population.admin.get("/v1/jobs/groups", params=query | {"by": "status"})
    assert groups.text.splitlines()[0].startswith("status,jobs,part2/efficiency:max count")

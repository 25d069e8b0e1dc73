"""The board that reads the API itself: every request of it is answered, with every column."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.server.conftest import OrreryServer, epoch_metrics

FOLDER = Path(__file__).parents[2] / "docker"
BOARD = json.loads((FOLDER / "grafana-jobs.json").read_text())
CHOICE = BOARD["templating"]["list"][1]["query"]["infinityQuery"]
TARGETS = {panel["title"]: panel["targets"][0] for panel in BOARD["panels"]} | {"choice": CHOICE}


def selected(row: dict[str, Any], selector: str) -> bool:
    """Whether a row has what Infinity's selector names: keys with a dot between."""
    head, _, rest = selector.partition(".")
    return head in row and (not rest or selected(row[head], rest))


@pytest.mark.parametrize("title", TARGETS)
def test_a_panel_asks_for_what_there_is(server: OrreryServer, title: str) -> None:
    job, assignment = server.start(config={"epochs": 2})
    server.report(assignment["lease_id"], first_epoch=0, epochs=[epoch_metrics(0)])
    server.submit()
    target = TARGETS[title]
    url = target["url"].replace("${job}", job["id"])
    query = [(each["key"], each["value"]) for each in target["url_options"]["params"]]
    viewer = server.http(server.new_token("viewer", "grafana"))
    answer = viewer.get(url, params=query)
    assert answer.status_code == 200, answer.text
    rows = answer.json()[target["root_selector"]]
    assert rows, "the panel would be empty"
    for column in target["columns"]:
        assert all(selected(row, column["selector"]) for row in rows), column


def test_the_source_is_what_the_board_asks_for() -> None:
    (source,) = yaml.safe_load((FOLDER / "grafana-source.yaml").read_text())["datasources"]
    types = {panel["datasource"]["type"] for panel in BOARD["panels"]}
    assert types == {source["type"], BOARD["templating"]["list"][0]["query"]}
    assert source["url"] in source["jsonData"]["allowedHosts"]

"""No shape of a body makes much work: counted here; how long it takes says the benchmark."""

import json
from typing import Any

import pytest

from nbody.config import Config
from nbody.config import config as config_module
from server.errors import InvalidRequest
from server.web.layers import body_shapes
from server.web.layers.body_shapes import MOST_FIELDS, MOST_KEYS, MOST_VALUES, check_shape
from tests.server.conftest import OrreryServer, assert_problem

LARGEST_SYSTEM = [[1.0, float(i), 2.0, 3.0, 4.0, 5.0, 6.0] for i in range(4096)]


def _refused(document: Any) -> str:
    with pytest.raises(InvalidRequest, match="too much work") as refused:
        check_shape(json.dumps(document).encode())
    return refused.value.detail


def test_what_is_valid_passes() -> None:
    check_shape(json.dumps({"config": {"particles": LARGEST_SYSTEM}}).encode())
    check_shape(json.dumps({"log": {"offset": 0, "data": "A" * 300_000}}).encode())
    check_shape(json.dumps({"epochs": [{f"m{k}": 1.5 for k in range(30)}] * 1000}).encode())


def test_wide_deep_and_long_documents_are_refused_with_what_is_too_much() -> None:
    assert "values" in _refused({"a": [1] * (MOST_VALUES + 1)})
    assert "values" in _refused({"a": [[1] * 100] * (MOST_VALUES // 100)})
    assert f"{MOST_KEYS} keys" in _refused({"a": {f"k{i:06}": i for i in range(2000)}})
    assert "longer than" in _refused({"k" * 10_000: 1})
    assert "nested deeper" in _refused({"a": json.loads("[" * 100 + "]" * 100), "b": "x" * 9000})


def test_a_document_that_is_far_too_wide_is_not_even_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body_shapes, "from_json", None)
    _refused([1] * 3 * MOST_VALUES + [1, 1])
    digits = b'{"a":[%s]}' % b",".join([b"7" * 4200] * 200)
    keys = json.dumps({f"k{i}": 1 for i in range(MOST_FIELDS + 1)}).encode()
    for body, what in ((digits, "300 digits"), (keys, "keys")):
        with pytest.raises(InvalidRequest, match=what):
            check_shape(body, MOST_FIELDS)


@pytest.mark.parametrize(
    "path", ["/v1/jobs", "/v1/jobs/validate", "/v1/sweeps", "/v1/tokens", "/v1/jobs/job_x/retry"]
)
def test_every_route_has_the_bounds(shared_server: OrreryServer, path: str) -> None:
    body = {"config": {f"k{i}": 1 for i in range(2000)}}
    problem = assert_problem(shared_server.admin.post(path, json=body), 422)
    assert "too much work" in problem["detail"]


def test_numbers_of_thousands_of_digits_are_not_computed_with(shared_server: OrreryServer) -> None:
    body = b'{"config":{"hidden_dims":[%s]}}' % b",".join([b"7" * 4200] * 200)
    headers = {"Content-Type": "application/json"}
    answer = shared_server.admin.post("/v1/jobs", content=body, headers=headers)
    assert "300 digits" in assert_problem(answer, 422)["detail"]


def test_only_some_unknown_keys_are_compared_with_the_fields(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(config_module, "nearest_key", lambda key: looked.append(key))
    with pytest.raises(ValueError, match="unknown field"):
        Config.model_validate({f"k{i}": 1 for i in range(10_000)})
    assert len(looked) <= config_module.MOST_ERRORS


def test_a_long_key_is_not_compared_with_the_fields() -> None:
    assert config_module.nearest_key("steps_per_epoc") == "steps_per_epoch"
    assert config_module.nearest_key("steps_per_epoc" * 10) is None


def test_rows_of_wrong_particles_cost_one_error() -> None:
    rows = [["x"] * 7] * 4096
    with pytest.raises(ValueError, match="particles") as refused:
        Config.model_validate({"initial_conditions": "inline", "particles": rows})
    assert refused.value.error_count() == 1  # pyright: ignore[reportAttributeAccessIssue]

"""The OpenAPI document is complete."""

from collections.abc import Iterator
from typing import Any

import pytest

from nbody.config import Config
from tests.server.conftest import OrreryServer

Json = dict[str, Any]


@pytest.fixture
def document(shared_server: OrreryServer) -> Json:
    answer = shared_server.admin.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def _operations(document: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def _nodes(value: Any) -> Iterator[Json]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _nodes(item)


def test_every_reference_leads_somewhere(document: Json) -> None:
    assert document["openapi"].startswith("3.")
    assert document["info"]["title"] == "Orrery"
    for node in _nodes(document):
        reference = node.get("$ref")
        if isinstance(reference, str):
            target: Any = document
            for part in reference.removeprefix("#/").split("/"):
                target = target[part]
            assert isinstance(target, dict)


def test_every_operation_has_a_name_and_a_description(document: Json) -> None:
    ids = [operation["operationId"] for _, operation in _operations(document)]
    assert len(set(ids)) == len(ids)
    for name, operation in _operations(document):
        assert operation.get("summary"), name
        assert operation.get("description"), name


def test_every_parameter_of_a_path_is_declared_and_bounded(document: Json) -> None:
    for name, operation in _operations(document):
        declared = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
        assert declared == {part.strip("{}") for part in name.split("/") if part.startswith("{")}, (
            name
        )


def test_every_route_documents_its_answer(document: Json) -> None:
    for name, operation in _operations(document):
        good = {code: a for code, a in operation["responses"].items() if code.startswith("2")}
        assert good, name
        for code, answer in good.items():
            assert answer["description"], name
            if code != "204":
                assert answer.get("content"), name
            for media_type, content in answer.get("content", {}).items():
                if media_type == "application/json":
                    assert content["schema"], name


def test_every_route_documents_its_problems(document: Json) -> None:
    for name, operation in _operations(document):
        problems = [a for code, a in operation["responses"].items() if code[0] == "4"]
        assert problems, name
        for problem in problems:
            assert list(problem["content"]) == ["application/problem+json"], name
            schema = problem["content"]["application/problem+json"].get("schema")
            assert schema == {"$ref": "#/components/schemas/Problem"}, name


def test_every_answer_and_body_has_an_example(document: Json) -> None:
    schemas = document["components"]["schemas"]

    def has_example(content: Json) -> bool:
        schema = content.get("schema", {})
        target = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
        return any("example" in s or "examples" in s for s in (content, schema, target))

    missing = [
        name
        for name, operation in _operations(document)
        for answer in [operation.get("requestBody", {}), *operation["responses"].values()]
        for media_type, content in answer.get("content", {}).items()
        if "json" in media_type and not has_example(content)
    ]
    assert missing == []


def test_every_field_of_a_config_is_described(document: Json) -> None:
    properties = document["components"]["schemas"]["Config"]["properties"]
    assert set(properties) == set(Config.model_fields)
    for name, field in properties.items():
        assert field.get("description"), name


def test_every_whole_number_that_clients_send_is_bounded(document: Json) -> None:
    bodies = [o.get("requestBody", {}) for _, o in _operations(document)]
    parameters = [p["schema"] for _, o in _operations(document) for p in o.get("parameters", ())]
    seen: set[str] = set()
    waiting: list[Any] = [*bodies, *parameters]
    while waiting:
        for node in _nodes(waiting.pop()):
            reference = node.get("$ref")
            if isinstance(reference, str) and reference not in seen:
                seen.add(reference)
                waiting.append(document["components"]["schemas"][reference.rpartition("/")[2]])
            if node.get("type") == "integer" and not {"const", "enum"} & set(node):
                lower = {"minimum", "exclusiveMinimum"} & set(node)
                upper = {"maximum", "exclusiveMaximum"} & set(node)
                assert lower, node
                assert upper, node
    assert "#/components/schemas/Report" in seen


def test_a_query_parameter_that_is_not_there_is_answered_with_those_that_are(
    document: Json, shared_server: OrreryServer
) -> None:
    asked = 0
    for path, methods in document["paths"].items():
        if not path.startswith("/v1/") or path.startswith("/v1/schemas/") or "get" not in methods:
            continue
        parameters = methods["get"].get("parameters", ())
        known = [item["name"] for item in parameters if item["in"] == "query"]
        answer = shared_server.admin.get(path.replace("{", "").replace("}", "") + "?qqqzzz=1")
        if answer.status_code in {401, 403}:  # of workers
            continue
        assert answer.status_code == 422, (path, answer.text)
        (problem,) = answer.json()["errors"]
        assert problem["pointer"] == "/query/qqqzzz"
        assert sorted(problem["detail"].split("use ")[1].split(", ")) == sorted(known or ["none"])
        asked += 1
    assert asked > 10

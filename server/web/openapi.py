"""The OpenAPI document: what FastAPI derives, problems as they are sent, and an example of each."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from server.access.roles import is_public
from server.web.examples import EXAMPLES
from server.wire.service import Problem

PROBLEM_TYPE = "application/problem+json"


def describe(app: FastAPI, prefix: str = "") -> dict[str, Any]:
    """The document, made once.

    Args:
        prefix: of all paths, as they are seen from outside.
    """
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        schemas = document["components"]["schemas"]
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= problem.pop("$defs")
        schemas["Problem"] = problem
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        if prefix:
            document["servers"] = [{"url": prefix}]
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _describe_problems(operation["responses"])
                _without_null(operation.get("parameters", ()))
                if is_public(method.upper(), path):
                    operation["security"] = []
        for name in EXAMPLES.keys() & schemas.keys():
            schemas[name]["examples"] = [EXAMPLES[name]]
        app.openapi_schema = document
    return app.openapi_schema


def _without_null(parameters: Any) -> None:
    """A parameter can be left out; it is never null."""
    for parameter in parameters:
        schema = parameter["schema"]
        kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            parameter["schema"] = kinds[0] | schema
        elif kinds:
            schema["anyOf"] = kinds


def _describe_problems(responses: dict[str, Any]) -> None:
    responses.pop("422", None)
    responses["4XX"] = {
        "description": "The request cannot be served as it is; the problem says why.",
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }

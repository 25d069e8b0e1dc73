"""The OpenAPI document: what FastAPI derives, problems as they are sent, and an example of each."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from server.examples import EXAMPLES
from server.schemas import Problem

PROBLEM_TYPE = "application/problem+json"


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        schemas = document["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        for operations in document["paths"].values():
            for operation in operations.values():
                _describe_problems(operation["responses"])
        for name in EXAMPLES.keys() & schemas.keys():
            schemas[name]["examples"] = [EXAMPLES[name]]
        app.openapi_schema = document
    return app.openapi_schema


def _describe_problems(responses: dict[str, Any]) -> None:
    responses.pop("422", None)
    responses["4XX"] = {
        "description": "The request cannot be served as it is; the problem says why.",
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }

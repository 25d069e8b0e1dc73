"""Parameters that several routes share."""

import difflib
from collections.abc import Iterator
from typing import Annotated, Any, cast

from fastapi import Depends, Header, Path, Query, Request, Response
from fastapi.dependencies.models import Dependant
from pydantic_core import to_json

from nbody.metrics import METRIC_NAMES
from server.access.roles import Principal
from server.errors import FieldProblem, InvalidRequest
from server.service import Service
from server.wire.messages import View

MAX_PAGE = 1000
PIECE = 500  # rows


async def _service(request: Request) -> Service:
    return request.app.state.service


async def _principal(request: Request) -> Principal:
    return request.state.principal


async def known_query(request: Request) -> None:
    """Refuse query parameters that the route does not have: a typo would change what is meant.

    Raises:
        InvalidRequest
    """
    if not request.query_params:
        return
    known = query_names(request.scope["route"].dependant)
    for name in request.query_params:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"use {', '.join(known) or 'none'}"
            place = name[:100].replace("~", "~0").replace("/", "~1")
            raise InvalidRequest(FieldProblem(f"/query/{place}", f"no such parameter; {hint}"))


def query_names(dependant: Dependant) -> list[str]:
    """The query parameters of a route and of what it depends on, as in the OpenAPI document."""
    own = [field.alias for field in dependant.query_params]
    return own + [name for part in dependant.dependencies for name in query_names(part)]


def write_json(view: View) -> Response:
    """A long answer, written by pydantic's core: several times as fast as through Python's json.

    In pieces, for between two of them other threads have the interpreter.
    """
    return Response(b"".join(_pieces(vars(view))), media_type="application/json")


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, dict) and value:
        before = b"{"
        for key, item in cast(dict[str, Any], value).items():
            yield before + to_json(key) + b":"
            yield from _pieces(item)
            before = b","
        yield b"}"
    elif isinstance(value, list) and len(value) > PIECE:
        yield b"["
        for begins in range(0, len(value), PIECE):
            yield (b"," if begins else b"") + to_json(value[begins : begins + PIECE])[1:-1]
        yield b"]"
    else:
        yield to_json(value)


def name_new(response: Response, path: str, *, is_repeat: bool) -> None:
    """Say where the thing is that a request made, and whether an earlier one made it."""
    response.headers["Location"] = path
    if is_repeat:
        response.headers["Idempotent-Replayed"] = "true"


TheService = Annotated[Service, Depends(_service)]
Caller = Annotated[Principal, Depends(_principal)]
MetricName = Annotated[str, Query(json_schema_extra={"enum": list(METRIC_NAMES)})]
JOB_ID = r"^job_[0-9a-z]{26}$"
JobId = Annotated[str, Path(pattern=JOB_ID, description="The job's id.")]
CheckpointId = Annotated[str, Path(pattern=r"^ckpt_[0-9a-z]{26}$", description="Its id.")]
ArtifactId = Annotated[str, Path(pattern=r"^file_[0-9a-z]{26}$", description="Its id.")]
FileId = Annotated[str, Path(pattern=r"^ic_[0-9a-z]{26}$", description="Its id.")]
SweepId = Annotated[str, Path(pattern=r"^sweep_[0-9a-z]{26}$", description="The sweep's id.")]
WorkerId = Annotated[str, Path(pattern=r"^worker_[0-9a-z]{26}$", description="The worker's id.")]
LeaseId = Annotated[str, Path(pattern=r"^lease_[0-9a-z]{26}$", description="The lease's id.")]
TokenId = Annotated[str, Path(pattern=r"^token_[0-9a-z]{5,26}$", description="The token's id.")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most items of one answer.")]
AfterId = Annotated[
    str | None,
    Query(max_length=64, pattern=r"^[A-Za-z0-9_]+$", description="Begin after this id."),
]
AfterNumber = Annotated[int | None, Query(ge=-1, le=2**53, description="Begin after this number.")]
IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Repeats with the same key and body get the first answer.",
    ),
]
Version = Annotated[
    int | None, Query(ge=0, le=2**53, description="With wait: answer once it differs.")
]
WaitSeconds = Annotated[
    float, Query(ge=0, le=25, allow_inf_nan=False, description="Wait for a change [s].")
]

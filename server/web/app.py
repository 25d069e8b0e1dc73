"""The ASGI application: routes, errors as problems, and access control around it all."""

import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from server import __version__
from server.access.roles import PAGE, Principal
from server.database.trouble import STORAGE_ERRORS, log_failure, trouble_of
from server.errors import InvalidRequest, MalformedBody, NotFound, ServerError
from server.service import Service
from server.settings import ServerSettings
from server.web.arrivals import Arrivals
from server.web.asgi import App
from server.web.idle_workers import IdleWorkers
from server.web.layers.access import AccessControl
from server.web.layers.body_shapes import BodyShapes
from server.web.layers.json_bodies import JsonBodies
from server.web.layers.loop_shares import LoopShares
from server.web.layers.other_sites import with_other_sites
from server.web.layers.quick_polls import QuickPolls
from server.web.layers.quick_reports import QuickReports
from server.web.live_feeds import LiveFeeds
from server.web.openapi import describe
from server.web.public_place import PublicPlace
from server.web.route_names import RouteNames
from server.web.routes import (
    dashboard,
    job_actions,
    job_records,
    jobs,
    leases,
    live,
    overview,
    session,
    stream,
    sweeps,
    system,
    tokens,
    workers,
)
from server.web.routes.files import checkpoints, initial_conditions, of_jobs, of_leases
from server.web.routes.parameters import known_query

DESCRIPTION = """
Train neural time steppers for gravitational N-body integrators.

Send `Authorization: Bearer TOKEN` with every request. Lists answer `{object, data, has_more,
first_id, last_id}`; the next part begins `after` the last id. Errors are problem documents (RFC
9457) with a `code` for programs, a `detail` that says what to do, and `errors` that point at
fields.
"""

OF_JOBS = (jobs, job_actions, job_records, stream, overview, live)
OF_FILES = (of_jobs, of_leases, checkpoints, initial_conditions)
BY_RESOURCE = (leases, *OF_JOBS, *OF_FILES, sweeps, workers, tokens, session)
ROUTE_NAMES = RouteNames(
    route.path
    for routes in (system, *BY_RESOURCE)
    for route in routes.router.routes
    if isinstance(route, APIRoute)
)

logger = logging.getLogger(__name__)


def create_app(settings: ServerSettings, service: Service | None = None) -> App:
    """The whole service as one ASGI application."""
    service = service or Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="Orrery",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service, app.state.feeds = service, LiveFeeds(service)
    app.state.idle_workers = IdleWorkers(service.changes)
    app.state.arrivals = Arrivals(settings.body_timeout_s)
    app.openapi = partial(describe, app, PublicPlace.of(settings.public_url).prefix)
    app.include_router(system.router)
    for routes in BY_RESOURCE:
        app.include_router(routes.router, dependencies=[Depends(known_query)])
    app.get("/", include_in_schema=False)(dashboard.show_dashboard)
    app.mount(PAGE.rstrip("/"), dashboard.DashboardFiles())
    app.add_exception_handler(ServerError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    for trouble in STORAGE_ERRORS:
        app.add_exception_handler(trouble, _answer_trouble)
    app.add_exception_handler(Exception, _answer_unexpected)
    quick = QuickReports(JsonBodies(QuickPolls(app, service.database)), service)

    def holds(caller: Principal) -> bool:
        return not settings.auth or service.sessions.holds(caller, time.time())

    shared = LoopShares(BodyShapes(quick), holds)
    access = AccessControl(shared, settings, service.sessions, service.telemetry, ROUTE_NAMES)
    return with_other_sites(access, settings.cors_origins)


def _problem_response(request: Request, error: ServerError) -> JSONResponse:
    return JSONResponse(
        error.problem(request.state.request_id),
        error.status,
        headers=dict(error.headers),
        media_type="application/problem+json",
    )


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServerError)
    return _problem_response(request, error)


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    """What is wrong with which field. Input is never echoed."""
    assert isinstance(error, RequestValidationError)
    lines: Sequence[Any] = error.errors()
    if any(line["type"] == "json_invalid" for line in lines):
        return _problem_response(request, MalformedBody("The body is not valid JSON."))
    if any(line["loc"][:1] == ("path",) for line in lines):
        return _problem_response(request, NotFound(f"resource {request.url.path[:200]}"))
    return _problem_response(request, InvalidRequest.of(lines))


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    """Starlette's own answers (no such route, wrong method, a body that cannot be parsed)."""
    assert isinstance(error, HTTPException)
    problem = ServerError(error.detail)
    document = problem.problem(request.state.request_id) | {
        "status": error.status_code,
        "title": error.detail,
        "code": {400: "malformed_body", 404: "not_found", 405: "method_not_allowed"}.get(
            error.status_code, "http_error"
        ),
    }
    document["type"] = f"urn:orrery:problem:{document['code']}"
    headers = error.headers
    if error.status_code == 405:
        headers = {"Allow": ", ".join(_methods(request.app.openapi()["paths"], request.url.path))}
    return JSONResponse(
        document, error.status_code, headers=headers, media_type="application/problem+json"
    )


def _methods(paths: dict[str, Any], path: str) -> list[str]:
    """Starlette names the methods of one route; a path can have several."""
    known = [path] if path in paths else [p for p in paths if compile_path(p)[0].match(path)]
    return sorted(method.upper() for name in known for method in paths[name])


async def _answer_unexpected(request: Request, error: Exception) -> JSONResponse:
    logger.error("unexpected error in request %s", request.state.request_id, exc_info=error)
    return _problem_response(request, ServerError.unexpected())


async def _answer_trouble(request: Request, error: Exception) -> JSONResponse:
    """The storage does not work."""
    log_failure(logger, f"request {request.state.request_id} failed", error)
    return _problem_response(request, trouble_of(error) or ServerError.unexpected())

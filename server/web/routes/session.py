"""Who asks, and sessions of browsers: a token for a cookie."""

import time
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from server.access import sessions
from server.access.roles import LOCAL_ADMIN, SESSION, Principal
from server.errors import Unauthenticated
from server.service import Service
from server.views import tokens as token_views
from server.web.routes.parameters import Caller, TheService
from server.wire.tokens import Login, Session

router = APIRouter(prefix=SESSION, tags=["tokens"])
Host = Annotated[str, Header(include_in_schema=False)]


@router.get("")
async def show_session(service: TheService, caller: Caller) -> Session:
    """Who asks: name and role of the token, or of the session's."""
    return await _session(service, caller, has_cookie=caller.session is not None)


@router.post("", status_code=201)
async def log_in(
    login: Login, request: Request, response: Response, service: TheService, host: Host
) -> Session:
    """Show a token, and get a cookie that stands for it: for pages, which keep no token."""
    now = time.time()
    if service.settings.auth:
        caller = service.tokens.authenticate(f"Bearer {login.token}", now)
    else:
        caller = LOCAL_ADMIN
    if caller.role == "worker":
        raise Unauthenticated
    secret = await service.write(
        lambda connection: sessions.begin(connection, caller.token_id, now=now)
    )
    await service.reload_tokens()
    response.set_cookie(
        sessions.cookie_name(host),
        secret,
        max_age=sessions.LIFE_S,
        httponly=True,
        samesite="strict",
        secure=request.headers.get("origin", "").startswith("https://"),
    )
    return await _session(service, caller, has_cookie=True)


@router.delete("", status_code=204)
async def log_out(response: Response, service: TheService, caller: Caller, host: Host) -> None:
    """End the session of the cookie that this comes with; without one nothing happens."""
    hashed = caller.session
    if hashed is not None:
        await service.write(lambda connection: sessions.end(connection, hashed))
        await service.reload_tokens()
    response.delete_cookie(sessions.cookie_name(host), httponly=True, samesite="strict")


async def _session(service: Service, caller: Principal, *, has_cookie: bool) -> Session:
    name = await service.read(lambda connection: token_views.name_of(connection, caller.token_id))
    return Session(
        token_id=caller.token_id,
        name=name,
        role=caller.role,
        needs_token=service.settings.auth,
        has_cookie=has_cookie,
    )

"""Tokens: make, list, revoke. For admins."""

import time

from fastapi import APIRouter
from sqlalchemy import Connection

from server.access import tokens
from server.queue import audit_log
from server.views import tokens as token_views
from server.views.pages import page
from server.web.routes.parameters import Caller, TheService, TokenId
from server.wire.messages import Page
from server.wire.tokens import NewToken, TokenRequest, TokenView

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])


@router.post("", status_code=201)
async def create_token(request: TokenRequest, service: TheService, caller: Caller) -> NewToken:
    """Make a token. Its secret is in this answer and nowhere else."""
    now = time.time()
    expires_at = None if request.expires_in_s is None else now + request.expires_in_s

    def work(connection: Connection) -> NewToken:
        row, secret = tokens.create_token(
            connection, request.name, request.role, now=now, expires_at=expires_at
        )
        audit_log.note(connection, caller, "token.create", row.id)
        return NewToken(**token_views.token_view(row).model_dump(), secret=secret)

    made = await service.write(work)
    await service.reload_tokens()
    return made


@router.get("")
async def list_tokens(service: TheService) -> Page[TokenView]:
    """Every token, without secrets."""
    found = await service.read(token_views.list_tokens)
    return page(found, len(found))


@router.delete("/{token_id}")
async def revoke_token(token_id: TokenId, service: TheService, caller: Caller) -> TokenView:
    """Revoke a token: from now on it opens nothing."""

    def work(connection: Connection) -> TokenView:
        row = tokens.revoke_token(connection, token_id, now=time.time())
        audit_log.note(connection, caller, "token.revoke", token_id)
        return token_views.token_view(row)

    view = await service.write(work)
    await service.reload_tokens()
    return view

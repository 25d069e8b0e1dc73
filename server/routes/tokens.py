"""Tokens: make, list, revoke. For admins."""

import time

from fastapi import APIRouter
from sqlalchemy import Connection

from server import auth, views
from server.routes.parameters import TheService, TokenId
from server.schemas import NewToken, Page, TokenRequest, TokenView

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])


@router.post("", status_code=201)
async def create_token(request: TokenRequest, service: TheService) -> NewToken:
    """Make a token. Its secret is in this answer and nowhere else."""
    now = time.time()
    expires_at = None if request.expires_in_s is None else now + request.expires_in_s

    def work(connection: Connection) -> NewToken:
        row, secret = auth.create_token(
            connection, request.name, request.role, now=now, expires_at=expires_at
        )
        return NewToken(**views.token_view(row).model_dump(), secret=secret)

    made = await service.write(work)
    await service.reload_tokens()
    return made


@router.get("")
async def list_tokens(service: TheService) -> Page[TokenView]:
    """Every token, without secrets."""
    found = await service.read(views.list_tokens)
    return views.page(found, len(found))


@router.delete("/{token_id}")
async def revoke_token(token_id: TokenId, service: TheService) -> TokenView:
    """Revoke a token: from now on it opens nothing."""
    view = await service.write(
        lambda connection: views.token_view(
            auth.revoke_token(connection, token_id, now=time.time())
        )
    )
    await service.reload_tokens()
    return view

"""What travels over HTTP about tokens, and what was done with them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from server.wire.messages import Message, Text, View

Role = Literal["admin", "user", "worker", "viewer"]


class TokenRequest(Message):
    """A token to make."""

    name: Text
    role: Role
    expires_in_s: Annotated[float, Field(strict=True, gt=0, le=1e9, allow_inf_nan=False)] | None = (
        None
    )


class TokenView(View):
    """A token, without its secret."""

    object: Literal["token"] = "token"
    id: str
    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewToken(TokenView):
    """A token that was just made; its secret is shown this once."""

    secret: str


class Login(Message):
    """A token, shown once."""

    token: Annotated[str, Field(max_length=500)]


class Session(View):
    """Who asks."""

    object: Literal["session"] = "session"
    token_id: str
    name: str
    role: Role
    needs_token: bool = Field(description="Whether this server asks for tokens at all.")
    has_cookie: bool = Field(description="Whether a cookie stands for the token.")


class AuditEntry(View):
    """What a person did."""

    object: Literal["audit_entry"] = "audit_entry"
    id: int
    at: datetime
    token_id: str = Field(description="Whose token it was done with.")
    action: str
    target: str = Field(description="Id of the job, sweep, token or worker.")

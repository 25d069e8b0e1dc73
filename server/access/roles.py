"""Who may do what: roles, and the one place that decides."""

import re
from contextvars import ContextVar
from dataclasses import dataclass

from server.errors import Forbidden
from server.wire.tokens import Role

PUBLIC_PATHS = frozenset({"/", "/docs", "/healthz", "/readyz"})
PAGE = "/dashboard/"  # its files, which hold nothing of anybody
SESSION = "/v1/session"
SAFE_METHODS = frozenset({"GET", "HEAD"})
OF_WORKERS = ("/v1/leases/", "/v1/workers")  # whoever asks: without tokens everybody is the same
DEMAND = "/v1/queue/demand"  # for who starts workers
UPLOADS = frozenset({"/v1/checkpoints", "/v1/files"})  # where bodies are files
OF_ATTEMPTS = re.compile(r"/v1/leases/[^/]+/files")  # and the same of files of workers
EVERYONE: frozenset[Role] = frozenset({"admin", "user", "worker", "viewer"})
PEOPLE: frozenset[Role] = frozenset({"admin", "user", "viewer"})
READABLE = frozenset(  # by people
    (
        *("artifacts", "checkpoints", "compare", "files", "jobs", "presets", "queue", "schemas"),
        *("stream", "sweeps", "workers"),
    )
)


@dataclass(frozen=True)
class Principal:
    """Who a request comes from."""

    token_id: str
    role: Role
    expires_at: float | None = None
    session: str | None = None  # of a browser, by the hash of its cookie

    @property
    def owner_filter(self) -> str | None:
        """Users see their own jobs; admins and viewers see all (None)."""
        return self.token_id if self.role == "user" else None


LOCAL_ADMIN = Principal("token_local", "admin")
# The token that a request is worked on for; None: the server's own work.
CALLER: ContextVar[str | None] = ContextVar("caller", default=None)


def allowed_roles(method: str, path: str) -> frozenset[Role]:
    """The roles that may call a method on a path. What is not named here is for admins alone."""
    resource = path.removeprefix("/v1/").partition("/")[0] if path.startswith("/v1/") else path
    if path == "/metrics" and method in SAFE_METHODS:
        return frozenset({"admin", "viewer"})
    if path in {"/version", "/openapi.json"} and method in SAFE_METHODS:
        return EVERYONE
    if path == SESSION:
        return EVERYONE
    if path == DEMAND:
        return frozenset({"admin", "worker"})
    if path.endswith("/drain"):
        return frozenset({"admin"})
    if resource in {"workers", "leases"} and (method == "POST" or OF_ATTEMPTS.fullmatch(path)):
        return frozenset({"worker"})
    if is_upload(method, path):
        return frozenset({"admin", "user"})
    if resource in READABLE and method in SAFE_METHODS:
        return PEOPLE
    if resource in {"files", "jobs", "sweeps"} and method in {"POST", "PATCH", "DELETE"}:
        return frozenset({"admin", "user"})
    return frozenset({"admin"})


def is_upload(method: str, path: str) -> bool:
    """Whether the body is a file, which no layer but its route reads."""
    return (method == "POST" and path in UPLOADS) or is_piece(method, path)


def has_files(path: str) -> bool:
    """Whether bodies there are no documents, whatever the method."""
    return path in UPLOADS or OF_ATTEMPTS.fullmatch(path) is not None


def is_piece(method: str, path: str) -> bool:
    """Whether the body is a piece of a file."""
    return method == "PUT" and OF_ATTEMPTS.fullmatch(path) is not None


def is_public(method: str, path: str) -> bool:
    """Whether a call needs no token."""
    if method in SAFE_METHODS:
        return path in PUBLIC_PATHS or path.startswith(PAGE)
    return path == SESSION and method == "POST"


def authorize(principal: Principal, method: str, path: str) -> None:
    """Let the call pass, or raise Forbidden."""
    allowed = allowed_roles(method, path)
    if principal.role not in allowed:
        roles = " or ".join(sorted(allowed))
        raise Forbidden(f"This needs a token with the role {roles}; yours is {principal.role}.")

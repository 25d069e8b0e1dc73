"""Health, version, and the schema of a Config."""

from typing import Any

from fastapi import APIRouter
from sqlalchemy import text

from nbody.config import Config
from server import __version__
from server.routes.parameters import TheService
from server.schemas import Health, Version

router = APIRouter(tags=["service"])
SCHEMA_EXAMPLE: dict[str, Any] = {
    "application/json": {"example": {"type": "object", "title": "Config", "properties": {}}}
}


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers. Needs no token."""
    return Health()


@router.get("/readyz")
async def readyz(service: TheService) -> Health:
    """The database answers, for reading and for writing. Needs no token."""
    await service.write(lambda connection: connection.execute(text("SELECT 1")).scalar_one())
    await service.read(lambda connection: connection.execute(text("SELECT 1")).scalar_one())
    return Health()


@router.get("/version")
async def version() -> Version:
    """What runs here."""
    return Version(version=__version__)


@router.get("/v1/schemas/config", responses={200: {"content": SCHEMA_EXAMPLE}})
async def config_schema() -> dict[str, Any]:
    """JSON Schema of a Config: types, ranges, defaults and descriptions."""
    return Config.model_json_schema()

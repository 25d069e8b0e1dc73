"""`orrery token`: make, list and revoke tokens."""

from typing import TYPE_CHECKING, Annotated

import typer

from server.cli import tables
from server.cli.connection import HELP, Shown, connected

if TYPE_CHECKING:
    from server.client import Client

app = typer.Typer(help="Make, list and revoke tokens.", no_args_is_help=True, context_settings=HELP)


@app.command()
@connected
def create(
    client: "Client",
    name: Annotated[str, typer.Argument(help="For people.")],
    role: Annotated[str, typer.Option(help="admin, user, viewer or worker.")] = "user",
    expires_in_days: Annotated[
        float | None, typer.Option(min=0.0, help="Valid for this long; default: until revoked.")
    ] = None,
) -> Shown:
    """Make a token and print its secret, which is shown this once."""
    seconds = None if expires_in_days is None else 86400 * expires_in_days
    token = client.create_token(name, role, expires_in_s=seconds)
    return Shown(token, token["secret"])


@app.command("list")
@connected
def show_all(client: "Client") -> Shown:
    """List tokens, without their secrets."""
    page = client.tokens()
    return Shown(page, tables.tokens_table(page["data"]))


@app.command()
@connected
def revoke(
    client: "Client",
    token_id: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="Its id, not its secret.")],
) -> Shown:
    """Revoke a token, at once and for good."""
    token = client.revoke_token(token_id)
    return Shown(token, f"{token['id']}: revoked")

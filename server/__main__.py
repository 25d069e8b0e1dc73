"""`python -m server` is the `orrery` command."""

from server.cli.main import main

main()

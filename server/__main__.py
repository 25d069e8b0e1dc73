"""`python -m server` is the `orrery` command."""

from server.cli import main

main()

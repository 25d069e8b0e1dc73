"""The commands that talk to a server; those that are one are in server/cli.py."""

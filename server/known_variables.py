"""Names of environment variables: one that nobody reads is a misspelt one."""

from collections.abc import Iterable

PREFIX = "ORRERY_"
# The settings of the server, here again because clients and workers start without them.
SERVER = {
    *("HOST", "PORT", "DATA", "AUTH", "ADMIN_TOKEN_FILE", "WORKER_TOKEN_FILE", "ALLOWED_HOSTS"),
    *("MAX_BODY_BYTES", "MAX_REPORT_BYTES", "MAX_CONNECTIONS", "BODY_TIMEOUT_S", "HEAD_TIMEOUT_S"),
    *("HEARTBEAT_INTERVAL_S", "LEASE_TTL_S", "STALL_TIMEOUT_S"),
    *("WRITES_PER_MINUTE", "MAX_QUEUED_JOBS", "MAX_ROW_BYTES", "MAX_FILE_BYTES"),
    *("USER_PRIORITY", "MAX_RUNNING_JOBS", "KEEP_EVERY", "KEEP_DAYS", "DISK_QUOTA_BYTES"),
    *("WEBHOOK_PRIVATE", "LOG_FORMAT", "TRACING"),
}
# Those of clients, of workers, of the compose files.
OTHERS = {
    *("URL", "TOKEN", "TOKEN_FILE", "WORKER_NAME", "SLOTS", "THREADS"),
    *("PUBLISH", "HOST_NAME", "SECRETS"),
}


def misspelt(present: Iterable[str]) -> list[str]:
    """A sentence about each variable that begins as ours do and is none.

    Args:
        present: names in the environment.
    """
    names = SERVER | OTHERS
    found: list[str] = []
    for variable in sorted(present):
        prefix, name = variable[: len(PREFIX)].upper(), variable[len(PREFIX) :].upper()
        if prefix == PREFIX and name not in names:
            import difflib  # noqa: PLC0415 - most have none, and wait for nothing

            near = difflib.get_close_matches(name, sorted(names), n=1)
            hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
            found.append(f"nothing reads the environment variable {variable}{hint}")
    return found

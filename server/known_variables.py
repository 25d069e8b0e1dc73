"""Names of environment variables: one that nobody reads is a misspelt one."""

from collections.abc import Iterable

PREFIX = "ORRERY_"
# Settings of the server, in any case; here again, as clients and workers start without them.
SERVER = {
    *("HOST", "PORT", "SOCKET", "DATA", "AUTH", "ADMIN_TOKEN_FILE", "WORKER_TOKEN_FILE"),
    *("ALLOWED_HOSTS", "CORS_ORIGINS", "STORE"),
    *("MAX_BODY_BYTES", "MAX_UPLOAD_BYTES", "MAX_INPUT_BYTES", "MAX_REPORT_BYTES"),
    *("MAX_CONNECTIONS", "BODY_TIMEOUT_S", "HEAD_TIMEOUT_S"),
    *("HEARTBEAT_INTERVAL_S", "LEASE_TTL_S", "STALL_TIMEOUT_S"),
    *("WRITES_PER_MINUTE", "MAX_QUEUED_JOBS", "MAX_ROW_BYTES", "MAX_FILE_BYTES"),
    *("USER_PRIORITY", "MAX_RUNNING_JOBS", "KEEP_EVERY", "KEEP_DAYS", "DISK_QUOTA_BYTES"),
    *("WEBHOOK_PRIVATE", "PUBLIC_URL", "MAIL_SERVER", "MAIL_FROM", "LOG_FORMAT", "TRACING"),
}
# Those of clients, of workers, of the compose files, in capitals.
OTHERS = {
    *("URL", "CA", "TOKEN", "TOKEN_FILE", "WORKER_NAME", "WORKER_LABELS", "SLOTS", "THREADS"),
    "CACHE_BYTES",
    *("PUBLISH", "HOST_NAME", "SECRETS"),
}
CALLED_URL = {"SERVER", "ADDRESS", "SERVER_URL"}


def misspelt(present: Iterable[str]) -> dict[str, str]:
    """The variables that begin as ours do and are none, each with a sentence about it.

    Args:
        present: names in the environment.
    """
    found: dict[str, str] = {}
    for variable in sorted(present):
        prefix, name = variable[: len(PREFIX)], variable[len(PREFIX) :]
        is_read = name.upper() in SERVER or (prefix == PREFIX and name in OTHERS)
        if prefix.upper() == PREFIX and not is_read:
            import difflib  # noqa: PLC0415 - most have none, and wait for nothing

            near = difflib.get_close_matches(name.upper(), sorted(SERVER | OTHERS), n=1)
            near = ["URL"] if name.upper() in CALLED_URL else near
            hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
            found[variable] = f"nothing reads the environment variable {variable}{hint}"
    return found

"""What a line of the log looks like, for people or for programs; it names the request it is of."""

import json
import logging
import math
import sys
import time
from contextvars import ContextVar
from typing import Literal

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
FIELDS = ("request_id", "job_id", "method", "path", "status", "milliseconds")
QUIET_S = 60.0  # between two records that say the same
MOST_TOLD = 1000
TEXT = "%(asctime)s %(name)s %(levelname)s %(message)s"


def configure(form: Literal["text", "json"]) -> None:
    """Send the log to stderr, as text or as one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Repeats())
    handler.addFilter(_add_request)
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells webhooks' whole URLs
    if form == "text":  # for programs every request is worth a line
        logging.getLogger("server.web.layers.access").setLevel(logging.WARNING)


def once_a_minute(what: str) -> dict[str, str]:
    """`extra` of a record that is left out where one with the same `what` was told just before."""
    return {"once": what}


class Repeats:
    """A filter: one a minute of records marked by `once_a_minute`, and of what uvicorn says of
    malformed requests, which anybody can send.
    """

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def __call__(self, record: logging.LogRecord) -> bool:
        """Whether it is told."""
        of_strangers = record.name == "uvicorn.error" and record.levelno == logging.WARNING
        once = getattr(record, "once", record.msg if of_strangers else None)
        if once is None:
            return True
        if 0 <= record.created - self._told.get(once, -math.inf) < QUIET_S:  # or the clock jumped
            return False
        if len(self._told) >= MOST_TOLD:
            self._told.clear()
        self._told[once] = record.created
        return True


def _add_request(record: logging.LogRecord) -> bool:
    if getattr(record, "request_id", None) is None:
        record.request_id = REQUEST_ID.get()
    return True


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the ids that it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in FIELDS:
            if (value := getattr(record, name, None)) is not None:
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)

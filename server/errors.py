"""What the API answers when it says no: RFC 9457 problems.

ServerError
├── NotFound              404  nothing there, or nothing that this token may see
├── Conflict              409
│   ├── IllegalMove       409  the job's state does not allow that
│   ├── LeaseLost         409  the worker no longer holds the job
│   ├── FolderNotShared   409  a worker does not see the server's data folder
│   ├── ReportConflict    409  a repeated report says something else
│   ├── ArrivalConflict   409  a piece of a file does not go on where the last one ended
│   ├── OtherContent      409  a file that came whole is not what it was said to be
│   └── KeyReused         422  an idempotency key came again with another body (idempotency.py)
├── Unauthenticated       401
├── Forbidden             403
├── InvalidRequest        422  a field is wrong
├── LimitReached          429  this token has asked for as much as it may
├── MalformedBody         400  the body is not JSON
├── BodyTooLarge          413
├── BodyTimeout           408
├── Stopping              503  the server is about to end
├── StorageFull           507  no space for what was to be written
├── StorageUnavailable    503  the database cannot be written or read just now
├── RangeMalformed        400
├── ContentRangeMalformed 400
├── RangeImpossible       416  the file has no such bytes
└── Misdirected           421  the Host header names another site
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

MAX_FIELD_PROBLEMS = 50
INNER = re.compile(
    r"(literal|function-[a-z]+|constrained-[a-z]+|tagged-union)\["
)  # of pydantic's, not a field
RESTART_RETRY_S = 2  # when to come again to a server that stops
STORAGE_RETRY_S = 10  # when to try again what the storage did not take


@dataclass(frozen=True)
class FieldProblem:
    """One field that is wrong: a JSON pointer into the request, and what to do."""

    pointer: str
    detail: str


class ServerError(Exception):
    """Base of every error that is an answer."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "server_error"
    title: ClassVar[str] = "Server error"
    headers: Mapping[str, str] = MappingProxyType({})
    closes = False  # whether the rest of the request is not read

    def __init__(self, detail: str, fields: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields

    @classmethod
    def unexpected(cls) -> "ServerError":
        """For what nobody foresaw; it is logged where it is caught."""
        return cls("Something went wrong here; the server's log has it by request_id.")

    def problem(self, request_id: str) -> dict[str, Any]:
        """The problem document."""
        document: dict[str, Any] = {
            "type": f"urn:orrery:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }
        if self.fields:
            document["errors"] = [
                {"pointer": field.pointer, "detail": field.detail} for field in self.fields
            ]
        return document


def pointer(location: Sequence[int | str]) -> str:
    """A JSON pointer (RFC 6901) of a pydantic location, without the leading "body"."""
    fields = [part for part in location if not (isinstance(part, str) and INNER.match(part))]
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in fields]
    return "".join(f"/{part[:100]}" for part in (parts[1:] if parts[:1] == ["body"] else parts))


class NotFound(ServerError):
    """Nothing there, or nothing that this token may see."""

    status, code, title = 404, "not_found", "Not found"

    def __init__(self, what: str) -> None:
        super().__init__(f"There is no {what}.")


class Conflict(ServerError):
    """The request does not fit the present state."""

    status, code, title = 409, "conflict", "Conflict"


class IllegalMove(Conflict):
    """The job's state does not allow that."""

    code, title = "illegal_move", "The job's state does not allow that"

    def __init__(self, job_id: str, status: str, action: str) -> None:
        super().__init__(f"Job {job_id} is {status}: it cannot {action}.")


class LeaseLost(Conflict):
    """The worker no longer holds the job."""

    code, title = "lease_lost", "Lease lost"

    def __init__(self) -> None:
        super().__init__("This lease no longer holds its job: stop the process, publish nothing.")


class FolderNotShared(Conflict):
    """A worker does not see the server's data folder."""

    code, title = "folder_not_shared", "The worker does not see the server's data folder"

    def __init__(self, has_mark: bool, server_folder: str) -> None:
        what = "is another one" if has_mark else "has no file .orrery-folder"
        super().__init__(
            f"The worker's data folder {what}: it must be the server's ({server_folder}), at "
            "whatever path it is mounted. Start the worker with --data FOLDER (ORRERY_DATA)."
        )


class ReportConflict(Conflict):
    """A repeated report says something else than the first."""

    code, title = "report_conflict", "Report conflict"


class ArrivalConflict(Conflict):
    """A piece of a file does not go on where the last one ended."""

    code, title = "arrival_conflict", "The file does not go on there"
    closes = True

    def __init__(self, why: str) -> None:
        super().__init__(f"{why} Ask with 'Content-Range: bytes */SIZE' how much has come.")


class OtherContent(Conflict):
    """A file that came whole is not what it was said to be."""

    code, title = "other_content", "The file is another one"

    def __init__(self) -> None:
        super().__init__("The file's sha256 is not the one that was told; send it from its start.")


class ContentRangeMalformed(ServerError):
    """The Content-Range header does not say which bytes come."""

    status, code, title = 400, "content_range_malformed", "Not one range of bytes"

    def __init__(self) -> None:
        super().__init__(
            "Use 'Content-Range: bytes FIRST-LAST/SIZE' with as many bytes, or 'bytes */SIZE' with "
            "none to ask how much has come."
        )


class Unauthenticated(ServerError):
    """No token, or not a valid one."""

    status, code, title = 401, "unauthenticated", "A valid token is needed"
    headers = MappingProxyType({"WWW-Authenticate": 'Bearer realm="orrery"'})

    def __init__(self) -> None:
        super().__init__("Send a valid token in the header 'Authorization: Bearer TOKEN'.")


class Forbidden(ServerError):
    """The token's role does not reach that far."""

    status, code, title = 403, "forbidden", "Forbidden"


class LimitReached(ServerError):
    """This token has asked for as much as it may."""

    status, code, title = 429, "limit_reached", "A limit is reached"

    def __init__(self, limit: str, retry_after_s: float) -> None:
        seconds = math.ceil(retry_after_s)
        super().__init__(f"The limit is {limit}; come back in {seconds} s.")
        self.headers = {"Retry-After": str(seconds)}


class InvalidRequest(ServerError):
    """A field of the request is wrong."""

    status, code, title = 422, "invalid_request", "A field is wrong"

    def __init__(self, *fields: FieldProblem) -> None:
        first = fields[0]
        more = f" (and {len(fields) - 1} more)" if len(fields) > 1 else ""
        super().__init__(f"{first.pointer or 'request'}: {first.detail}{more}", fields)

    @classmethod
    def of(cls, lines: Sequence[Any], within: str = "") -> "InvalidRequest":
        """The problem that pydantic's error lines tell. Input is never echoed.

        Args:
            within: pointer to what was checked, where it is a part of the request.
        """
        return cls(
            *(
                FieldProblem(
                    within + pointer(line["loc"]), line["msg"].removeprefix("Value error, ")
                )
                for line in lines[:MAX_FIELD_PROBLEMS]
            )
        )


class MalformedBody(ServerError):
    """The body is not JSON that this server reads."""

    status, code, title = 400, "malformed_body", "The body is not valid JSON"


class NoFile(MalformedBody):
    """The body is not a file, or not sent as one."""

    title = "The body is not a file as it is to be sent"


class BodyTooLarge(ServerError):
    """The body is larger than this server reads."""

    status, code, title = 413, "body_too_large", "The body is too large"
    closes = True

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than {limit} bytes; send less.")


class Stopping(ServerError):
    """The server is about to end, and whoever waits is to come again."""

    status, code, title = 503, "stopping", "The server stops"
    headers = MappingProxyType({"Retry-After": str(RESTART_RETRY_S)})

    def __init__(self) -> None:
        super().__init__("The server stops, or is restarted; ask again.")


class StorageFull(ServerError):
    """There is no space for what was to be written."""

    status, code, title = 507, "storage_full", "No space left"
    headers = MappingProxyType({"Retry-After": str(STORAGE_RETRY_S)})

    def __init__(self) -> None:
        super().__init__(
            "The server's disk is full; nothing was written. Free some space there, or set "
            "ORRERY_DISK_QUOTA_BYTES."
        )


class StorageUnavailable(ServerError):
    """The database cannot be written or read just now."""

    status, code, title = 503, "storage_unavailable", "The storage does not work"
    headers = MappingProxyType({"Retry-After": str(STORAGE_RETRY_S)})

    def __init__(self, cause: str) -> None:
        super().__init__(f"Nothing was written: {cause}.")


class RangeImpossible(ServerError):
    """The file has no such bytes."""

    status, code, title = 416, "range_impossible", "The file has no such bytes"

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes; use 'Range: bytes=FIRST-LAST' within it.")
        self.headers = {"Content-Range": f"bytes */{size}"}


class RangeMalformed(ServerError):
    """The Range header is not one range of bytes."""

    status, code, title = 400, "range_malformed", "Not one range of bytes"

    def __init__(self) -> None:
        super().__init__("Use 'Range: bytes=FIRST-LAST', or leave the header out.")


class BodyTimeout(ServerError):
    """The body did not arrive in time."""

    status, code, title = 408, "body_timeout", "The body did not arrive in time"
    closes = True

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The body did not arrive within {seconds:g} s; send it again.")


class Misdirected(ServerError):
    """The Host header names another site."""

    status, code, title = 421, "misdirected", "This server does not answer for that host"

    def __init__(self) -> None:
        super().__init__("Use a host name that the setting allowed_hosts lists.")

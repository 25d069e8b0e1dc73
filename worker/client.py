"""The worker's side of the worker protocol.

ServerRefused     the server said no in a way that repeating does not change
├── LeaseEnded     the lease holds nothing any more
├── FileRefused    a file is not there, or not taken as it is sent
│   └── PieceTooLarge  something in between takes no bodies of this size
└── NotRegistered the server does not know this worker (another database, another token)
Unreachable       no answer, or 5xx: try again later
"""

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

import httpx

from server.wire.between import not_ours
from server.wire.files import Arrived
from server.wire.kinds import JobKind
from server.wire.messages import Message
from server.wire.states import OF_A_GPU, JobStatus, StopReason
from server.wire.trust import explain, link_of, trusted, trusted_elsewhere
from server.wire.workers import (
    Assignment,
    ClaimRequest,
    FinishAnswer,
    Outcome,
    Report,
    ReportAnswer,
    Vitals,
    WorkerRegistration,
    WorkerTerms,
)

logger = logging.getLogger(__name__)
KINDS: tuple[JobKind, ...] = get_args(JobKind)
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 20.0
FAREWELL_TIMEOUT_S = 5.0
# Came since release 0.1.0.
LATER_OF_VITALS: dict[str, Any] = {
    "trouble": True,
    "gpus": {"__all__": {"is_slowed", "ecc_errors", "foreign_memory_bytes", "trouble", "xid"}},
}
PARTIAL_CONTENT, TOO_LARGE, RANGE_IMPOSSIBLE = 206, 413, 416
PIECE = 2**20  # bytes of a file that are written at once


class ServerRefused(Exception):
    """The server said no."""


class LeaseEnded(ServerRefused):
    """The lease holds nothing any more: stop the process, publish nothing."""


class FileRefused(ServerRefused):
    """A file is not there, or not taken as it is sent."""


class PieceTooLarge(FileRefused):
    """Something in between takes no bodies of this size."""


class NotRegistered(ServerRefused):
    """The server does not know this worker."""


class Unreachable(Exception):
    """No answer, or a failure on the server's side."""


class WorkerClient:
    """One method per route. Close it, or use it as a context manager."""

    def __init__(
        self,
        server: str,
        token: str,
        transport: httpx.BaseTransport | None = None,
        authorities: Path | None = None,
    ) -> None:
        self._authorities = authorities
        timeout = httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._http = httpx.Client(
            base_url=server,
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout,
            transport=transport,
            trust_env=False,
            verify=trusted(server, authorities),
        )
        self._unknown: set[str] = set()  # fields of messages, to this server
        self._telling = threading.Lock()
        self._away_since: float | None = None  # when it first did not answer [s, monotonic]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def register(self, registration: WorkerRegistration) -> WorkerTerms:
        """Offer slots."""
        answer = self._post_known("/v1/workers", registration, {"proof", "labels"})
        return WorkerTerms.model_validate_json(answer.content)

    def leave(self, worker_id: str) -> None:
        """Say that it takes no more jobs; an earlier server is not told."""
        with suppress(NotRegistered, ServerRefused, Unreachable):
            self._post(f"/v1/workers/{worker_id}/leave", "", FAREWELL_TIMEOUT_S)

    def claim(
        self, worker_id: str, claim_id: str, wait_s: float, left_s: float | None = None
    ) -> Assignment | None:
        """Ask for a job, waiting up to wait_s for one.

        Args:
            left_s: seconds that it would have; None: as many as it needs.
        """
        path = f"/v1/workers/{worker_id}/claim"
        request = ClaimRequest(claim_id=claim_id, kinds=list(KINDS), wait_s=wait_s, left_s=left_s)
        answer = self._post_known(path, request, {"left_s"}, timeout=wait_s + ANSWER_TIMEOUT_S)
        return None if answer.status_code == 204 else Assignment.model_validate_json(answer.content)

    def tell_vitals(self, worker_id: str, vitals: Vitals) -> None:
        """Say how the host's GPUs are doing."""
        path = f"/v1/workers/{worker_id}/vitals"
        try:
            self._post(path, vitals.model_dump_json(exclude_none=True))
        except NotRegistered:
            raise
        except ServerRefused:  # an earlier release knows less of GPUs
            self._post(path, vitals.model_dump_json(exclude=LATER_OF_VITALS))

    def report(self, lease_id: str, report: Report) -> ReportAnswer:
        """Report, renew the lease, and learn what to do."""
        body = report.model_dump_json(by_alias=True, exclude_unset=True)
        answer = self._post(f"/v1/leases/{lease_id}/report", body)
        return ReportAnswer.model_validate_json(answer.content)

    def finish(self, lease_id: str, outcome: Outcome) -> JobStatus:
        """End the attempt; returns the job's status."""
        path = f"/v1/leases/{lease_id}/finish"
        try:
            answer = self._post(path, outcome.model_dump_json())
        except LeaseEnded:
            raise
        except ServerRefused:
            if outcome.stop_reason not in OF_A_GPU:
                raise
            # An earlier release knows no such reasons.
            lost = outcome.model_copy(update={"stop_reason": StopReason.WORKER_LOST})
            answer = self._post(path, lost.model_dump_json())
        return FinishAnswer.model_validate_json(answer.content).status

    def has_come(self, lease_id: str, path: str, size: int, sha256: str) -> Arrived:
        """How much of a file of an attempt the server has."""
        return self._put(lease_id, path, sha256, f"bytes */{size}", b"")

    def bring(
        self,
        lease_id: str,
        path: str,
        size: int,
        sha256: str,
        start: int,
        length: int,
        content: Iterable[bytes],
    ) -> Arrived:
        """Send a piece of a file of an attempt; returns how much the server has then.

        Args:
            path: relative to the data folder.
            size: of the whole file [B].
            start, length: of the piece [B].
        """
        piece = f"bytes {start}-{start + length - 1}/{size}"
        return self._put(lease_id, path, sha256, piece, content, {"Content-Length": str(length)})

    def sha256_of(self, lease_id: str, path: str) -> str:
        """What a file is that a job begins with."""
        place = _files_of(lease_id)
        answer = self._send(lambda: self._http.head(place, params={"path": path}), place)
        return answer.headers["ETag"].strip('"')

    def take(self, lease_id: str, path: str, target: Path, keep_alive: Callable[[], None]) -> None:
        """Get a file that a job begins with; what is in the target is its beginning.

        Args:
            keep_alive: called with each piece; what it raises ends this.
        """
        come = target.stat().st_size if target.exists() else 0
        place = _files_of(lease_id)
        headers = {"Range": f"bytes={come}-"} if come else {}
        try:
            with (
                self._stream(place, {"path": path}, headers) as answer,
                target.open("ab") as file,
            ):
                if answer.status_code == RANGE_IMPOSSIBLE:  # it was whole
                    return
                if not answer.is_success:
                    answer.read()
                self._check(answer, place)
                if answer.status_code != PARTIAL_CONTENT:
                    file.truncate(0)
                for piece in answer.iter_bytes(PIECE):
                    file.write(piece)
                    keep_alive()
        except httpx.TransportError as error:
            raise self._away(f"{type(error).__name__}: {error}") from error

    @contextmanager
    def _stream(
        self, place: str, query: dict[str, str], headers: dict[str, str]
    ) -> Generator[httpx.Response]:
        """A file from where it is, which may be another server's: that one gets no token."""
        with self._http.stream("GET", place, params=query, headers=headers) as answer:
            link = link_of(answer.status_code, answer.headers)
            if link is None:
                yield answer
                return
        trust = trusted_elsewhere(link, self._authorities)
        with httpx.stream(
            "GET", link, headers=headers, timeout=ANSWER_TIMEOUT_S, trust_env=False, verify=trust
        ) as answer:
            if not answer.is_success and answer.status_code != RANGE_IMPOSSIBLE:
                raise self._away(f"the store answered {answer.status_code}")  # the link is old
            yield answer

    def _put(
        self,
        lease_id: str,
        path: str,
        sha256: str,
        content_range: str,
        content: bytes | Iterable[bytes],
        headers: dict[str, str] | None = None,
    ) -> Arrived:
        place = _files_of(lease_id)
        about = {
            "Content-Type": "application/octet-stream",
            "Content-Range": content_range,
            **(headers or {}),
        }
        query = {"path": path, "sha256": sha256}
        answer = self._send(
            lambda: self._http.put(place, params=query, content=content, headers=about), place
        )
        return Arrived.model_validate_json(answer.content)

    def _post_known(
        self, path: str, message: Message, later: set[str], timeout: float | None = None
    ) -> httpx.Response:
        """Post, where a server of an earlier release does not know some fields, without them.

        Args:
            later: fields that came since release 0.1.0.
        """
        body = message.model_dump_json(exclude=self._unknown, exclude_none=True)
        try:
            return self._post(path, body, timeout)
        except ServerRefused as refusal:
            unknown = {name for name in later - self._unknown if f"/{name}:" in str(refusal)}
            if not unknown:
                raise
            self._unknown |= unknown
            return self._post_known(path, message, later, timeout)

    def _post(self, path: str, body: str, timeout: float | None = None) -> httpx.Response:
        options: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        headers = {"Content-Type": "application/json"}
        return self._send(
            lambda: self._http.post(path, content=body, headers=headers, **options), path
        )

    def _send(self, request: Callable[[], httpx.Response], path: str) -> httpx.Response:
        try:
            answer = request()
        except httpx.TransportError as error:
            raise self._away(explain(error) or f"{type(error).__name__}: {error}") from error
        self._check(answer, path)
        return answer

    def _check(self, answer: httpx.Response, path: str) -> None:
        """What an answer means for those who work here.

        Raises:
            Unreachable, ServerRefused
        """
        if answer.status_code >= 500 or answer.status_code in {408, 429}:
            detail = _problem(answer).get("detail", "")
            raise self._away(f"it answered {answer.status_code} {detail}")
        with self._telling:
            if self._away_since is not None:
                seconds = time.monotonic() - self._away_since
                logger.info("the server answers again, after %.0f s", seconds)
                self._away_since = None
        if answer.is_success:
            return
        problem = _problem(answer)
        if problem.get("code") == "lease_lost":
            raise LeaseEnded(problem["detail"])
        if answer.status_code == 404 and path.endswith("/claim"):
            raise NotRegistered(problem.get("detail", path))
        if path.endswith("/files"):
            refused = PieceTooLarge if answer.status_code == TOO_LARGE else FileRefused
            raise refused(f"{answer.status_code}: {problem.get('detail', '')}")
        raise ServerRefused(f"{answer.status_code}: {problem.get('detail', answer.text[:200])}")

    def _away(self, why: str) -> Unreachable:
        """The server does not answer: told once, until it does again."""
        with self._telling:
            if self._away_since is None:
                self._away_since = time.monotonic()
                logger.warning("the server does not answer (%s); trying again and again", why)
        return Unreachable(why)


def _files_of(lease_id: str) -> str:
    return f"/v1/leases/{lease_id}/files"


def _problem(answer: httpx.Response) -> dict[str, Any]:
    try:
        return answer.json()
    except ValueError:
        return {"detail": not_ours(answer.status_code, answer.headers, answer.text)}

"""Python client of the API: one method per call.

with Client("http://127.0.0.1:8080", token) as orrery:
    job = orrery.submit({"epochs": 100})
    job = orrery.wait(job["id"])

ClientError
├── ServerUnreachable   no server answers at that address
├── DownloadFailed      a file did not come as it is
└── ApiProblem          the server said no; `.problem` is its answer
"""

import hashlib
import json
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from server.patience import Patience
from server.wire.between import not_ours
from server.wire.states import TERMINAL
from server.wire.trust import explain, link_of, trusted, trusted_elsewhere

Json = dict[str, Any]
TIMEOUT_S = 30.0
LONG_POLL_S = 20.0
TRIES, LONGEST_PAUSE_S = 4, 10  # of a call that comes too often
AWAY = frozenset({502, 503, 504})  # answers of a server that comes back, or of its proxy
AWAY_S = 600.0  # of one absence, over which those who wait go on
FILES_OF = {"ckpt": "checkpoints", "file": "artifacts", "ic": "files"}  # routes, by their ids
REST = TERMINAL | {"paused"}  # a job does not leave these by itself


class ClientError(Exception):
    """Base of what a call can fail with."""


class ServerUnreachable(ClientError):
    """No server answers at that address."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"no server answers at {url} ({reason}); `orrery up` starts one here, --url or "
            "$ORRERY_URL names another"
        )


class DownloadFailed(ClientError):
    """What came is not the file that the server listed, or a store did not send it."""


class ApiProblem(ClientError):
    """The server said no."""

    def __init__(self, status: int, problem: Json) -> None:
        self.status, self.problem = status, problem
        lines = [str(problem.get("detail") or problem.get("title") or f"HTTP {status}")]
        errors = problem.get("errors", [])
        if len(errors) > 1:
            lines += [f"  {error['pointer']}: {error['detail']}" for error in errors]
        super().__init__("\n".join(lines))

    @property
    def code(self) -> str:
        """The problem's code, for programs."""
        return self.problem.get("code", "")


class Client:
    """Talks to one server with one token."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        transport: httpx.BaseTransport | None = None,
        authorities: Path | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        self._patience = Patience(0.0, _say_nothing)
        self._authorities = authorities
        try:
            self._http = httpx.Client(
                base_url=self.url,
                headers=headers,
                timeout=TIMEOUT_S,
                transport=transport,
                trust_env=False,
                verify=trusted(self.url, authorities),
            )
        except httpx.InvalidURL as error:
            raise ServerUnreachable(self.url, f"that is no address: {error}") from error

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

    @contextmanager
    def over_restarts(
        self, tell: Callable[[str], object] | None = None, seconds: float = AWAY_S
    ) -> Generator[None]:
        """Inside, calls that only read go on while the server is away, up to some time.

        Args:
            tell: called once for each absence, with why.
            seconds: of one absence, after which a call fails as it does outside.
        """
        before, self._patience = self._patience, Patience(seconds, tell or _say_nothing)
        try:
            yield
        finally:
            self._patience = before

    def health(self) -> Json:
        """Whether the service answers."""
        return self._call("GET", "/healthz").json()

    def version(self) -> Json:
        """What runs there."""
        return self._call("GET", "/version").json()

    def session(self) -> Json:
        """Whose token this is: its name and role."""
        return self._call("GET", "/v1/session").json()

    def config_schema(self) -> Json:
        """JSON Schema of a Config."""
        return self._call("GET", "/v1/schemas/config").json()

    def submit(self, config: Json, idempotency_key: str | None = None, **options: Any) -> Json:
        """Submit a job; options are the other fields of a submission."""
        body = {"config": config, **options}
        return self._call("POST", "/v1/jobs", json=body, headers=_once(idempotency_key)).json()

    def validate(self, config: Json, **options: Any) -> Json:
        """What would run."""
        return self._call("POST", "/v1/jobs/validate", json={"config": config, **options}).json()

    def jobs(self, **filters: Any) -> Json:
        """A page of jobs, newest first, or in the order of the column `sort`."""
        return self._call("GET", "/v1/jobs", params=filters).json()

    def jobs_as_csv(self, **filters: Any) -> str:
        """The same as CSV."""
        return self._call("GET", "/v1/jobs", params={**filters, "format": "csv"}).text

    def job_groups(self, by: Sequence[str], **filters: Any) -> Json:
        """Jobs in groups of equal values, with the mean and spread of columns over each."""
        return self._call("GET", "/v1/jobs/groups", params={"by": by, **filters}).json()

    def job(self, job_id: str, **parameters: Any) -> Json:
        """A job, whole."""
        return self._call("GET", f"/v1/jobs/{_quote(job_id)}", params=parameters).json()

    def job_with_version(self, job_id: str, **parameters: Any) -> tuple[Json, str]:
        """A job and its version; with `wait` and `version`, once it differs from that version."""
        answer = self._call("GET", f"/v1/jobs/{_quote(job_id)}", params=parameters)
        return answer.json(), answer.headers["ETag"].strip('W/"')

    def wait(self, job_id: str, until: Collection[str] = TERMINAL) -> Json:
        """The job, once its status is one of `until`: by default, once it is over.

        Goes on over a restart of the server.
        """
        job, version = self.job_with_version(job_id)
        with self.over_restarts():
            while job["status"] not in until:
                job, version = self.job_with_version(job_id, wait=LONG_POLL_S, version=version)
        return job

    def wait_for_epochs(self, job_id: str, epochs: int) -> Json:
        """The job, once so many epochs are done, or it is over or paused."""
        job, version = self.job_with_version(job_id)
        with self.over_restarts():
            while job["progress"]["epochs_done"] < epochs and job["status"] not in REST:
                job, version = self.job_with_version(job_id, wait=LONG_POLL_S, version=version)
        return job

    def cancel(self, job_id: str, **options: Any) -> Json:
        """Cancel a job; options are grace_s and force."""
        return self._call("POST", f"/v1/jobs/{_quote(job_id)}/cancel", json=options).json()

    def pause(self, job_id: str) -> Json:
        """Pause a job."""
        return self._call("POST", f"/v1/jobs/{_quote(job_id)}/pause").json()

    def resume(self, job_id: str) -> Json:
        """Queue a paused job again."""
        return self._call("POST", f"/v1/jobs/{_quote(job_id)}/resume").json()

    def retry(self, job_id: str, **options: Any) -> Json:
        """A new job from one that is over; options are from_checkpoint, config and name."""
        return self._call("POST", f"/v1/jobs/{_quote(job_id)}/retry", json=options).json()

    def act(self, action: str, **which: Any) -> Iterator[Json]:
        """Do something to many jobs; what became of each. `which` is `ids`, or `where`, a filter;
        options are dry_run, force, files, retry."""
        while True:
            body = {"action": action, **which}
            found = self._call("POST", "/v1/jobs/actions", json=body).json()
            yield from found["data"]
            if not found["has_more"]:
                return
            which["after"] = found["data"][-1]["id"]

    def change(self, job_id: str, **changes: Any) -> Json:
        """Change a job's name, notes, priority or metadata."""
        return self._call("PATCH", f"/v1/jobs/{_quote(job_id)}", json=changes).json()

    def delete(self, job_id: str, *, files: bool = False) -> Json:
        """Delete a job that is over; with `files` also what it wrote."""
        parameters = {"files": files}
        return self._call("DELETE", f"/v1/jobs/{_quote(job_id)}", params=parameters).json()

    def attempts(self, job_id: str, **parameters: Any) -> Json:
        """Who tried a job."""
        return self._call("GET", f"/v1/jobs/{_quote(job_id)}/attempts", params=parameters).json()

    def queue(self, **parameters: Any) -> Json:
        """Waiting jobs, the next one first."""
        return self._call("GET", "/v1/queue", params=parameters).json()

    def demand(self, **parameters: Any) -> Json:
        """What there is to do for workers of one sort; with a worker's token."""
        return self._call("GET", "/v1/queue/demand", params=parameters).json()

    def compare(self, job_ids: Sequence[str], keys: Sequence[str], **parameters: Any) -> Json:
        """Metrics of several jobs side by side."""
        query = {"ids": list(job_ids), "keys": list(keys), **parameters}
        return self._call("GET", "/v1/compare", params=query).json()

    def metrics(self, job_id: str, **parameters: Any) -> Json:
        """A page of epochs."""
        return self._call("GET", f"/v1/jobs/{_quote(job_id)}/metrics", params=parameters).json()

    def all_metrics(self, job_id: str, **parameters: Any) -> Iterator[Json]:
        """Every epoch, in order."""
        after = -1
        while True:
            page = self.metrics(job_id, after=after, **parameters)
            yield from page["data"]
            if not page["has_more"]:
                return
            after = page["last_epoch"]

    def result(self, job_id: str) -> Json:
        """What a job that succeeded found."""
        return self._call("GET", f"/v1/jobs/{_quote(job_id)}/result").json()

    def artifacts(self, job_id: str, **parameters: Any) -> Json:
        """A page of the files that a simulation or an evaluation wrote."""
        return self._call("GET", f"/v1/jobs/{_quote(job_id)}/artifacts", params=parameters).json()

    def events(self, job_id: str, **parameters: Any) -> Json:
        """A page of events."""
        return self._call("GET", f"/v1/jobs/{_quote(job_id)}/events", params=parameters).json()

    def stream(self, job_id: str, last_event_id: int | None = None) -> Iterator[tuple[str, Json]]:
        """What happens to a job as it happens, to its end: (kind, data), the last kind is `end`.

        Goes on by itself after the server closed the stream, and once it has begun, over a restart
        of the server.
        """
        path = f"/v1/jobs/{_quote(job_id)}/stream"
        seen = last_event_id
        patience = self._patience
        while True:
            headers = {} if seen is None else {"Last-Event-ID": str(seen)}
            try:
                with self._http.stream("GET", path, headers=headers) as answer:
                    if answer.status_code in AWAY and not patience.is_at_end("it restarts"):
                        continue
                    if not answer.is_success:
                        answer.read()
                        raise _problem(answer)
                    patience = Patience(AWAY_S, _say_nothing)
                    for kind, data in _messages(answer.iter_lines()):
                        seen = data.get("id", seen)
                        if kind == "restart":
                            break
                        yield kind, data
                        if kind == "end":
                            return
            except httpx.TransportError as error:
                if patience.is_at_end(type(error).__name__):
                    raise ServerUnreachable(self.url, _in_words(error)) from error

    def logs(self, job_id: str, offset: int = 0) -> bytes:
        """Log bytes from an offset."""
        path = f"/v1/jobs/{_quote(job_id)}/logs"
        return self._call("GET", path, params={"offset": offset}).content

    def checkpoints(self, job_id: str, **parameters: Any) -> Json:
        """A page of checkpoints."""
        return self._call("GET", f"/v1/jobs/{_quote(job_id)}/checkpoints", params=parameters).json()

    def checkpoint(self, checkpoint_id: str) -> Json:
        """One checkpoint."""
        return self._call("GET", f"/v1/checkpoints/{_quote(checkpoint_id)}").json()

    def upload(self, path: Path, name: str | None = None) -> Json:
        """Send a checkpoint file; its `job_id` is then a stepper for simulations and evaluations.

        Raises:
            OSError: the file cannot be read.
        """
        headers = {"Content-Type": "application/octet-stream"}
        options = {"headers": headers, "params": {"name": (name or path.name)[:200]}}
        return self._call("POST", "/v1/checkpoints", content=path.read_bytes(), **options).json()

    def send_initial_conditions(self, path: Path, name: str | None = None) -> Json:
        """Send a file of initial conditions; its `path` is then an `ic_path` of your jobs.

        Raises:
            OSError: the file cannot be read.
        """
        headers = {"Content-Type": "application/octet-stream"}
        options = {"headers": headers, "params": {"name": (name or path.name)[-200:]}}
        return self._call("POST", "/v1/files", content=path.read_bytes(), **options).json()

    def files(self, **parameters: Any) -> Json:
        """A page of files of initial conditions that were sent."""
        return self._call("GET", "/v1/files", params=parameters).json()

    def delete_file(self, file_id: str) -> Json:
        """Delete a file of initial conditions."""
        return self._call("DELETE", f"/v1/files/{_quote(file_id)}").json()

    def download(self, file_id: str, target: Path) -> Path:
        """Save a checkpoint, an artifact or a file that was sent; appears under its name only when
        it is whole, and has the checksum that the server knows."""
        kind = FILES_OF.get(file_id.partition("_")[0], "checkpoints")
        path = f"/v1/{kind}/{_quote(file_id)}/content"
        partial = target.with_name(f".{target.name}.part")
        try:
            with self._stream(path) as (answer, sha256), partial.open("wb") as file:
                if not answer.is_success:
                    answer.read()
                    raise _problem(answer)
                digest = hashlib.sha256()
                for piece in answer.iter_bytes():
                    file.write(piece)
                    digest.update(piece)
            if digest.hexdigest() != sha256:
                raise DownloadFailed(f"what came for {file_id} is not that file; try again")
            return partial.replace(target)
        except httpx.TransportError as error:
            raise ServerUnreachable(self.url, _in_words(error)) from error
        finally:
            partial.unlink(missing_ok=True)

    @contextmanager
    def _stream(self, path: str) -> Generator[tuple[httpx.Response, str]]:
        """A file from where it is, which may be a store (that one gets no token), and its sha256.

        Raises:
            DownloadFailed: of the store.
        """
        with self._http.stream("GET", path) as answer:
            sha256 = answer.headers.get("ETag", "").strip('"')
            link = link_of(answer.status_code, answer.headers)
            if link is None:
                yield answer, sha256
                return
        trust = trusted_elsewhere(link, self._authorities)
        place = httpx.URL(link).copy_with(query=None, fragment=None)
        try:
            with httpx.stream(
                "GET", link, timeout=TIMEOUT_S, trust_env=False, verify=trust
            ) as answer:
                if not answer.is_success:
                    raise DownloadFailed(f"the store answered {answer.status_code} for {place}")
                yield answer, sha256
        except httpx.TransportError as error:
            raise DownloadFailed(f"the store does not send {place}: {_in_words(error)}") from error

    def create_sweep(
        self,
        space: Json,
        config: Json | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Json:
        """Begin a sweep; options are the other fields of its request."""
        body = {"space": space, "config": config or {}, **options}
        return self._call("POST", "/v1/sweeps", json=body, headers=_once(idempotency_key)).json()

    def sweeps(self, **filters: Any) -> Json:
        """A page of sweeps, newest first."""
        return self._call("GET", "/v1/sweeps", params=filters).json()

    def sweep(self, sweep_id: str) -> Json:
        """A sweep, with its best trial so far."""
        return self._call("GET", f"/v1/sweeps/{_quote(sweep_id)}").json()

    def follow_sweep(self, sweep_id: str) -> Iterator[Json]:
        """The sweep as it is now, and after every change, to its end."""
        path, version = f"/v1/sweeps/{_quote(sweep_id)}", None
        while True:
            parameters = {} if version is None else {"wait": LONG_POLL_S, "version": version}
            with nullcontext() if version is None else self.over_restarts():
                answer = self._call("GET", path, params=parameters)
            sweep, seen = answer.json(), answer.headers["ETag"].strip('W/"')
            if seen != version:
                yield sweep
            if sweep["status"] != "running":
                return
            version = seen

    def trials(self, sweep_id: str, **parameters: Any) -> Json:
        """A page of a sweep's trials."""
        return self._call("GET", f"/v1/sweeps/{_quote(sweep_id)}/trials", params=parameters).json()

    def importance(self, sweep_id: str) -> Json:
        """How much each field of a sweep matters."""
        return self._call("GET", f"/v1/sweeps/{_quote(sweep_id)}/importance").json()

    def cancel_sweep(self, sweep_id: str) -> Json:
        """End a sweep and cancel its jobs."""
        return self._call("POST", f"/v1/sweeps/{_quote(sweep_id)}/cancel").json()

    def delete_sweep(self, sweep_id: str) -> Json:
        """Delete a sweep that is over; its jobs stay."""
        return self._call("DELETE", f"/v1/sweeps/{_quote(sweep_id)}").json()

    def workers(self) -> Json:
        """Every worker."""
        return self._call("GET", "/v1/workers").json()

    def drain(self, worker_id: str, *, draining: bool = True) -> Json:
        """Give a worker no more jobs, or jobs again."""
        path = f"/v1/workers/{_quote(worker_id)}/drain"
        return self._call("POST", path, json={"draining": draining}).json()

    def audit(self, **filters: Any) -> Json:
        """What people did, the latest first."""
        return self._call("GET", "/v1/audit", params=filters).json()

    def tokens(self) -> Json:
        """Every token, without secrets."""
        return self._call("GET", "/v1/tokens").json()

    def create_token(self, name: str, role: str, expires_in_s: float | None = None) -> Json:
        """A new token, with its secret."""
        body = {"name": name, "role": role, "expires_in_s": expires_in_s}
        return self._call("POST", "/v1/tokens", json=body).json()

    def revoke_token(self, token_id: str) -> Json:
        """Revoke a token."""
        return self._call("DELETE", f"/v1/tokens/{_quote(token_id)}").json()

    def wait_until_ready(self, seconds: float) -> None:
        """Return once the service answers.

        Raises:
            ServerUnreachable: it does not within the time.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.health()
            except ServerUnreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        tries = TRIES
        while True:
            try:
                answer = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if method != "GET" or self._patience.is_at_end(type(error).__name__):
                    raise ServerUnreachable(self.url, _in_words(error)) from error
                continue
            if answer.is_success:
                self._patience.renew()
                return answer
            if method == "GET" and answer.status_code in AWAY:
                if not self._patience.is_at_end(f"it answers {answer.status_code}"):
                    continue
                raise _problem(answer)
            tries -= 1
            pause = _pause(answer)
            if not tries or pause is None:
                raise _problem(answer)
            time.sleep(pause)


def _in_words(error: httpx.TransportError) -> str:
    """Why a call did not reach a server."""
    if isinstance(error, httpx.UnsupportedProtocol):
        return "an address begins with http:// or https://"
    if isinstance(error, httpx.ConnectError):
        if (wrong := explain(error)) is not None:
            return wrong
        return "nothing listens there" if "refused" in str(error) else str(error)
    return type(error).__name__


def _say_nothing(why: str) -> None:
    del why


def _messages(lines: Iterator[str]) -> Iterator[tuple[str, Json]]:
    """The messages in the lines of an event stream."""
    kind, data = "message", ""
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            kind = value
        elif field == "data":
            data = value
        elif not line and data:
            yield kind, json.loads(data)
            kind, data = "message", ""


def _pause(answer: httpx.Response) -> float | None:
    """How long to wait before the same call is worth another try [s]: what was refused for coming
    too often was not done.
    """
    seconds = answer.headers.get("Retry-After", "")
    if answer.status_code != 429 or not seconds.isdigit() or int(seconds) > LONGEST_PAUSE_S:
        return None
    return float(seconds)


def _problem(answer: httpx.Response) -> ApiProblem:
    try:
        return ApiProblem(answer.status_code, answer.json())
    except ValueError:
        return ApiProblem(
            answer.status_code,
            {"detail": not_ours(answer.status_code, answer.headers, answer.text)},
        )


def _once(idempotency_key: str | None) -> dict[str, str]:
    return {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}


def _quote(identifier: str) -> str:
    """An id as one part of a path, whatever it holds."""
    return quote(identifier, safe="") or "-"

"""A bundle made again from its manifest: the same jobs with the same seeds, and what differs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from server.results.bundle import read_manifest, read_member, write_bundle
from server.results.errors import NothingToShow
from server.results.run import Json
from server.results.score_tables import numbers_of

if TYPE_CHECKING:
    from server.client import Client

LONGEST_NAME = 200
LABEL = "again"  # of jobs that are made so: the id of the one that they repeat


class Difference(NamedTuple):
    """A number that is not what it was."""

    job: str
    place: str
    was: float | None
    now: float | None


def make_again(
    client: "Client", path: Path, output: Path, tell: Callable[[str], object]
) -> list[Difference]:
    """Run the jobs of a bundle again, write another bundle of them, and compare all numbers.

    Trainings run first, then what uses their steppers; a stepper that is of no job in the bundle is
    uploaded from it, and so are initial conditions that a user sent.

    Args:
        tell: called with a line on each job.

    Raises:
        BundleUnreadable
        NothingToShow: a job did not succeed this time.
    """
    manifest = read_manifest(path)
    made: dict[str, str] = {}
    for training in (True, False):
        started: list[str] = []
        for job in manifest["jobs"]:
            if (job["kind"] == "train") is training:
                made[job["id"]] = _submit(client, path, manifest, job, made)
                tell(f"{job['name'] or job['id']} runs again as {made[job['id']]}")
                started.append(made[job["id"]])
        for job_id in started:
            _await_success(client, job_id)
    ids = [made[job["id"]] for job in manifest["jobs"]]
    news = write_bundle(client, ids, output, manifest["title"])
    return list(_differences(manifest, news))


def _submit(client: "Client", path: Path, manifest: Json, job: Json, made: dict[str, str]) -> str:
    options: Json = {"kind": job["kind"], "metadata": {**job["metadata"], LABEL: job["id"]}}
    if job["name"]:
        options["name"] = f"{job['name']}, again"[:LONGEST_NAME]
    if (stepper := job.get("stepper")) is not None:
        options["stepper"] = _stepper(client, path, manifest, stepper, made)
    config = {**job["config"], "seed": job["seed"]}
    if (place := job.get("begins_with")) is not None:
        config["ic_path"] = _sent(client, path, manifest, place)
    return client.submit(config, **options)["id"]


def _stepper(
    client: "Client", path: Path, manifest: Json, stepper: Json, made: dict[str, str]
) -> Json:
    if stepper["job"] in made:
        return {"job": made[stepper["job"]], "epoch": stepper["epoch"]}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "stepper.pt"
        file.write_bytes(read_member(path, manifest, stepper["file"]))
        return {"job": client.upload(file, name=file.name)["job_id"]}


def _sent(client: "Client", path: Path, manifest: Json, place: str) -> str:
    """Where the server has initial conditions of a bundle, which are sent."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / Path(place).name
        file.write_bytes(read_member(path, manifest, place))
        return client.send_initial_conditions(file)["path"]


def _await_success(client: "Client", job_id: str) -> None:
    job = client.wait(job_id)
    if job["status"] != "succeeded":
        why = job["failure"]["detail"] if job["failure"] else "somebody ended it"
        raise NothingToShow(f"{job['name'] or job_id} {job['status']} this time: {why}")


def _differences(old: Json, new: Json) -> Iterator[Difference]:
    for before, after in zip(old["jobs"], new["jobs"], strict=True):
        was, now = numbers_of(before), numbers_of(after)
        for place in sorted(was.keys() | now.keys()):
            if was.get(place) != now.get(place):
                name = before["name"] or before["id"]
                yield Difference(name, place, was.get(place), now.get(place))

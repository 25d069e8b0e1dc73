"""A bundle for a paper: figures, tables, configs, seeds, versions, checkpoints, one archive.

`manifest.json` names everything in it, with its sha256, and holds what is needed to run the jobs
again and to make another bundle (`server.results.again`). The same jobs give the same bytes.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server import __version__
from server.client import ApiProblem
from server.results.drawing import draw_panels, panels_of, titles
from server.results.errors import BundleUnreadable, NothingToShow
from server.results.run import Json, Run, read_file
from server.results.score_tables import csv_of, score_tables
from server.wire.files import id_of_sent

if TYPE_CHECKING:
    from server.client import Client

FORMAT = 1  # of the manifest
MANIFEST = "manifest.json"
UNDATED: dict[str, Json] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip file can say; of every file, so that bytes repeat
IMAGES = ("svg", "pdf", "png")
CITATION = """cff-version: 1.2.0
message: If you use these results, please cite the software that made them.
title: "Orrery: neural time steppers for N-body integrators"
type: software
version: {version}
license: MIT
"""
TOLD = """# {title}

{count} made by Orrery {version}. `manifest.json` has each with its config, seed, versions and the
sha256 of every file here.

| folder | what is there |
|---|---|
| `figures/` | each figure as SVG, PDF and PNG |
| `tables/` | scores and what was conserved, as CSV and as LaTeX; `metrics/` has every epoch |
| `configs/` | each job's config, every field; `orrery submit` takes a training's |
| `files/` | checkpoints, results, states, initial conditions that were sent |

    orrery bundle --again THIS.zip -o again.zip

runs all of it again with the same seeds on a server of yours, and compares every number.
"""


def write_bundle(client: "Client", job_ids: Sequence[str], path: Path, title: str) -> Json:
    """Write the bundle of some jobs to a zip file; returns its manifest.

    A job that uses a stepper brings the checkpoint along.

    Raises:
        NothingToShow: a job is not over, or did not succeed.
        OSError: the file cannot be written.
    """
    runs = [Run(client, each) for each in dict.fromkeys(job_ids)]
    for run in runs:
        if run.job["status"] != "succeeded":
            raise NothingToShow(
                f"{run.title} is {run.job['status']}: a bundle is of what succeeded"
            )
    names = file_names(runs)
    jobs = [describe(run, names[run.id]) for run in runs]
    files = dict(_files(client, runs, names, jobs))
    files |= score_tables(jobs)
    files |= _figures(runs)
    files["CITATION.cff"] = CITATION.format(version=__version__).encode()
    count = "1 job" if len(runs) == 1 else f"{len(runs)} jobs"
    files["README.md"] = TOLD.format(title=title, count=count, version=__version__).encode()
    manifest = {
        "format": FORMAT,
        "title": title,
        "orrery": __version__,
        "server": client.version(),
        "jobs": jobs,
        "files": {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)},
    }
    files[MANIFEST] = json.dumps(manifest, indent=2, sort_keys=True).encode()
    _write(path, files)
    return manifest


def read_manifest(path: Path) -> Json:
    """The manifest of a bundle.

    Raises:
        BundleUnreadable
        OSError
    """
    try:
        with zipfile.ZipFile(path) as archive:
            manifest: Json | None = json.loads(archive.read(MANIFEST))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise BundleUnreadable(f"{path} is no bundle: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleUnreadable(
            f"{path} is of another version of Orrery: its format is not {FORMAT}"
        )
    return manifest


def read_member(path: Path, manifest: Json, name: str) -> bytes:
    """A file of a bundle, if it is what the manifest says.

    Raises:
        BundleUnreadable
    """
    with zipfile.ZipFile(path) as archive:
        try:
            data = archive.read(name)
        except (KeyError, zipfile.BadZipFile):
            raise BundleUnreadable(f"{path} lacks {name}") from None
    if hashlib.sha256(data).hexdigest() != manifest["files"].get(name):
        raise BundleUnreadable(f"{name} in {path} is not what it was: its sha256 differs")
    return data


def file_names(runs: Sequence[Run]) -> dict[str, str]:
    """What each job's files are called, by its id: plain, and no two the same."""
    found: dict[str, str] = {}
    for run_id, title in titles(runs).items():
        plain = _plain(title) or run_id
        found[run_id] = plain if plain not in found.values() else f"{plain}-{run_id[-5:]}"
    return found


def _plain(text: str) -> str:
    """Text as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:80]


def _unique(name: str, taken: Mapping[str, bytes]) -> str:
    """What a figure's files are called: as its panel, with a number where that is taken."""
    plain, number = _plain(name) or "figure", 1
    while f"figures/{plain}.{IMAGES[0]}" in taken:
        number += 1
        plain = f"{_plain(name) or 'figure'}-{number}"
    return plain


def describe(run: Run, name: str) -> Json:
    """What a manifest says of a job: all that made it, and what it found."""
    job = run.job
    kept = ("id", "name", "kind", "config", "metadata", "owner", "created_at", "finished_at")
    whereabouts: list[Json] = [
        attempt["whereabouts"] for attempt in run.attempts if attempt["whereabouts"]
    ]
    return {
        **{key: job[key] for key in kept},
        "files_are": name,
        "seed": run.seed,
        "attempts": whereabouts,
        "from_checkpoint": job["from_checkpoint"],
        "result": job["result"],
        "last_epoch": run.epochs[-1] if run.epochs else None,
    }


def _files(
    client: "Client", runs: Sequence[Run], names: Mapping[str, str], jobs: Sequence[Json]
) -> Iterator[tuple[str, bytes]]:
    """Everything that is a job's own. Notes in `jobs` where its checkpoints are."""
    for run, job in zip(runs, jobs, strict=True):
        name = names[run.id]
        yield f"configs/{name}.json", json.dumps(job["config"], indent=2).encode()
        if run.epochs:
            yield f"tables/metrics/{name}.csv", csv_of(list(run.epochs[0]), run.epochs)
        job["checkpoints"] = {}
        for point in run.checkpoints[-1:] + _best(run.checkpoints):
            place = f"files/{name}/{Path(point['path']).name}"
            job["checkpoints"][str(point["epoch"])] = place
            yield place, read_file(client, point["id"])
        for file_name in sorted(run.artifacts):
            yield f"files/{name}/{file_name}", run.file(file_name) or b""
        if (sent := id_of_sent(job["config"]["ic_path"])) is not None:
            with suppress(ApiProblem):  # it was deleted: the job cannot be made again
                begins_with = read_file(client, sent)
                place = f"files/{name}/{Path(job['config']['ic_path']).name}"
                job["begins_with"] = place
                yield place, begins_with
        if (used := job["from_checkpoint"]) and run.kind != "train":
            place = f"files/{name}/stepper.pt"
            job["stepper"] = _stepper(client, used) | {"file": place}
            yield place, read_file(client, used)


def _best(checkpoints: Sequence[Json]) -> list[Json]:
    known = [point for point in checkpoints if point["efficiency"] and point["pass_rate"] >= 0.9]
    return [max(known, key=lambda point: point["efficiency"])] if known else []


def _stepper(client: "Client", checkpoint_id: str) -> Json:
    point = client.checkpoint(checkpoint_id)
    return {"job": point["job_id"], "epoch": point["epoch"]}


def _figures(runs: Sequence[Run]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    matplotlib: Any = import_module("matplotlib")
    matplotlib.rcParams["svg.hashsalt"] = "orrery"  # else the names in a file are random
    for panel in panels_of(runs):
        figure = draw_panels([panel])
        plain = _unique(panel.name, found)
        for image in IMAGES:
            drawn = io.BytesIO()
            metadata = UNDATED[image]
            figure.savefig(drawn, format=image, dpi=200, metadata=metadata)
            found[f"figures/{plain}.{image}"] = drawn.getvalue()
    return found


def _write(path: Path, files: Mapping[str, bytes]) -> None:
    partial = path.with_name(f".{path.name}.part")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(files):
                archive.writestr(zipfile.ZipInfo(name, EARLIEST), files[name], zipfile.ZIP_DEFLATED)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

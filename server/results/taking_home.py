"""All that a job left, as files in a folder of the user's."""

import json
from collections.abc import Iterator
from pathlib import Path

from nbody.durable_file import is_file_of, write_durably
from server.results.run import Run


def take_home(run: Run, folder: Path) -> Iterator[Path]:
    """Write a job's config, what is known of it, metrics, log, checkpoints and other files.

    What is there already, and is what it is to be, is not taken again.

    Yields:
        Each file, once it is whole.

    Raises:
        OSError, ClientError
    """
    texts = {
        "config.json": json.dumps(run.job["config"], indent=2),
        "job.json": json.dumps(run.job | {"attempts": run.attempts}, indent=2),
    }
    if run.epochs:
        texts["metrics.jsonl"] = "\n".join(map(json.dumps, run.epochs))
    for name, text in texts.items():
        yield _written(folder / name, f"{text}\n".encode())
    if log := run.log:
        yield _written(folder / "log.txt", log)
    for file in (*run.checkpoints, *run.artifacts.values()):
        place = folder / Path(file["path"]).name
        if not is_file_of(place, file["sha256"]):
            place.parent.mkdir(parents=True, exist_ok=True)
            run.client.download(file["id"], place)
        yield place


def _written(path: Path, content: bytes) -> Path:
    return write_durably(path, lambda temporary: temporary.write_bytes(content))

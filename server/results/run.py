"""A job and all that is known of it, asked for once."""

import io
import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from server.results.errors import NothingToShow

if TYPE_CHECKING:
    from server.client import Client

Json = dict[str, Any]
HELD_OUT, WAY, STATES = "held_out.json", "orbit.json", "simulation.npz"


LONGEST = 60  # characters of a name in the name of a file


class Run:
    """One job, as the server knew it when it was first asked."""

    def __init__(self, client: "Client", job_id: str) -> None:
        self.client, self.id = client, job_id

    @cached_property
    def job(self) -> Json:
        """The job, whole."""
        return self.client.job(self.id)

    @property
    def title(self) -> str:
        """Its name, or its id."""
        return self.job["name"] or self.id

    @property
    def kind(self) -> str:
        """What it does: train, simulate or evaluate."""
        return self.job["kind"]

    @cached_property
    def epochs(self) -> list[Json]:
        """The metrics of every epoch, in order."""
        return list(self.client.all_metrics(self.id))

    @cached_property
    def events(self) -> list[Json]:
        """What happened to it."""
        return list(every_item(self.client.events, self.id))

    @cached_property
    def attempts(self) -> list[Json]:
        """Who tried it, where, and with what."""
        return list(every_item(self.client.attempts, self.id))

    @cached_property
    def checkpoints(self) -> list[Json]:
        """Its checkpoints, oldest epoch first."""
        return list(every_item(self.client.checkpoints, self.id))

    @cached_property
    def artifacts(self) -> dict[str, Json]:
        """Its other files by name, the newest of each."""
        return {file["name"]: file for file in every_item(self.client.artifacts, self.id)}

    @property
    def seed(self) -> int | None:
        """The seed of its last attempt, also where the config left it open."""
        places = [attempt["whereabouts"] for attempt in self.attempts if attempt["whereabouts"]]
        return int(places[-1]["seed"]) if places else self.job["config"]["seed"]

    def series(self, key: str) -> tuple[list[int], list[float | None]]:
        """Epochs, and a metric of each."""
        return [row["epoch"] for row in self.epochs], [row[key] for row in self.epochs]

    @property
    def folder_name(self) -> str:
        """Of a folder for its files: its id, with what can stand in a file's name of its own."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", self.job["name"] or "")[:LONGEST].strip("._")
        return f"{plain}-{self.id}" if plain else self.id

    @cached_property
    def log(self) -> bytes:
        """What its processes printed."""
        pieces: list[bytes] = []
        while piece := self.client.logs(self.id, offset=sum(map(len, pieces))):
            pieces.append(piece)
        return b"".join(pieces)

    @cached_property
    def held_out(self) -> Json | None:
        """The held-out states behind its scores; None where it has none."""
        return self.json_file(HELD_OUT)

    @cached_property
    def way(self) -> Json | None:
        """The orbit of a simulation's first system; None where it has none."""
        return self.json_file(WAY)

    def json_file(self, name: str) -> Json | None:
        """What one of its files holds."""
        data = self.file(name)
        return None if data is None else json.loads(data)

    def file(self, name: str) -> bytes | None:
        """The bytes of one of its files; None where it has none of that name."""
        found = self.artifacts.get(name)
        return None if found is None else read_file(self.client, found["id"])

    def states(self) -> dict[str, Any]:
        """The arrays of a simulation: time (K,), position and velocity (K, N, D), mass, dt, …

        Raises:
            NothingToShow: it is no simulation that is over.
        """
        import numpy as np  # noqa: PLC0415 - not for the command line's start

        data = self.file(STATES)
        if data is None:
            raise NothingToShow(f"{self.title} has no states: it is no simulation that is over")
        with np.load(io.BytesIO(data)) as arrays:
            return dict(arrays)


def read_file(client: "Client", file_id: str) -> bytes:
    """The bytes of a checkpoint or another file."""
    with TemporaryDirectory() as folder:
        return client.download(file_id, Path(folder) / "file").read_bytes()


def every_item(list_some: Any, *of: str) -> Iterator[Json]:
    """Every item of a list that comes in parts."""
    after: dict[str, Any] = {}
    while True:
        page = list_some(*of, limit=1000, **after)
        yield from page["data"]
        if not page["has_more"]:
            return
        after = {"after": page["last_id"]}

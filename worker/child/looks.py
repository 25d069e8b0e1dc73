"""A close look at the scores of a job, as files of its attempt."""

from typing import Any

from nbody.evaluation.look_file import HELD_OUT_FILE, PICTURE_FILE
from nbody.evaluation.picture import draw_look
from worker.child.file_records import Artifacts


def keep_look(look: dict[str, Any], artifacts: Artifacts, *, picture: bool) -> None:
    """Keep it as JSON, and as a picture where one is wanted and matplotlib is installed."""
    artifacts.keep_json(HELD_OUT_FILE, look)
    if picture:
        try:
            artifacts.keep(PICTURE_FILE, lambda path: draw_look(look, path))
        except ModuleNotFoundError as error:
            print(f"no picture of the scores: {error}", flush=True)

"""No room is so full that nobody finds anything in it."""

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = "nbody", "server", "worker", "tests", "docker"
MOST_MODULES = 20


def test_no_folder_holds_more_than_20_modules() -> None:
    modules = (path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    counted = Counter(path.parent.relative_to(ROOT) for path in modules)
    assert {room: number for room, number in counted.items() if number > MOST_MODULES} == {}

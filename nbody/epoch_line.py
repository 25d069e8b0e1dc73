"""One epoch for people, as a line of text; the same in a terminal with a server and without."""

from collections.abc import Mapping


def epoch_line(metrics: Mapping[str, float | int | None], epochs_in_all: int | None = None) -> str:
    """A line of an epoch's metrics, under the names that users see.

    Args:
        epochs_in_all: of the run, where that is known.
    """

    def number(name: str, form: str) -> str:
        value = metrics[name]
        return "-" if value is None else format(value, form)

    last = "" if epochs_in_all is None else f"/{epochs_in_all - 1}"
    return (
        f"epoch {metrics['epoch']}{last}: {number('epoch_time', '.2f')} s, "
        f"collected {metrics['part1/trajectory_length']} "
        f"at {number('part1/acceptance_rate', '.1%')} acceptance, "
        f"{metrics['part2/iterations']} iterations, "
        f"{number('part2/final_pass_rate', '.1%')} pass"
    )

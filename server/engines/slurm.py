"""Workers as jobs of a Slurm cluster: what is waited for and run is asked of `squeue` each time.

A worker is told when its job's time is over (`--until`), and hands its jobs back before, with a
checkpoint. A job that Slurm takes its node from goes back into Slurm's queue (`--requeue`), also
while nobody scales, and is the same worker when it begins again: at once, not after two minutes as
Slurm would have it.
"""

import os
import pwd
import re
import shlex
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from server.engines.engine import (
    EngineUnavailable,
    Pilot,
    PilotState,
    PilotTerms,
    without_tokens,
)

ANSWER_S = 30.0
# Of https://slurm.schedmd.com/squeue.html: what has not begun, and what goes on.
STATES: dict[str, PilotState] = {
    **dict.fromkeys(
        ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "RESV_DEL_HOLD"), "waits"
    ),
    **dict.fromkeys(("REQUEUE_HOLD", "SPECIAL_EXIT"), "held"),
    **dict.fromkeys(("RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING"), "runs"),
    "COMPLETING": "ends",  # also of what goes back into the queue
}
HELD = "launch failed requeued held"  # with underscores in some releases
OTHER_CLUSTERS = "SBATCH_CLUSTERS", "SLURM_CLUSTERS"  # there nobody would find them again
LIMIT = re.compile(r"(?:(?P<days>\d+)-)?(?P<rest>\d+(?::\d+){0,2})")
AFTER_A_LOSS = "BeginTime"
SCRIPT = """#!/bin/sh
{prologue}
end=$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %e 2> /dev/null)
case $end in [0-9]*T*) set -- --until "$end" ;; *) set -- ;; esac
exec {command} --token-file {token_file} --data "{data}" --name "{base}-$SLURM_JOB_ID" "$@"
"""


@dataclass(frozen=True)
class SlurmTerms:
    """What each of Slurm's jobs asks for.

    Attributes:
        data: folder of a worker on its node; the shell there puts variables in.
        token_file: which all nodes see.
        logs: folder of what workers print, which all nodes see.
        python: words that run Python on a node.
        options: of sbatch.
        prologue: lines of shell before the worker is started, such as `module load`.
    """

    data: str
    token_file: Path
    logs: Path
    python: tuple[str, ...]
    options: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()


def seconds_of(limit: str) -> float:
    """Of a limit as sbatch takes it: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S.

    Raises:
        ValueError
    """
    match = LIMIT.fullmatch(limit)
    if match is None:
        raise ValueError(f"--time {limit}: use minutes, H:M:S or D-H:M:S")
    parts = [int(part) for part in match["rest"].split(":")]
    if match["days"] is not None:
        hours, minutes, seconds = [*parts, 0, 0][:3]
        return 86400.0 * int(match["days"]) + 3600 * hours + 60 * minutes + seconds
    if len(parts) < 3:
        parts = [0, *parts, 0][:3]
    return 3600.0 * parts[0] + 60 * parts[1] + parts[2]


class SlurmEngine:
    """Talks to Slurm by its commands, as whoever runs this."""

    def __init__(self, terms: PilotTerms, slurm: SlurmTerms) -> None:
        self._terms, self._slurm = terms, slurm

    def start(self, number: int, *, kept: bool) -> list[Pilot]:
        """Submit jobs."""
        base = self._terms.base(kept=kept)
        try:
            self._slurm.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EngineUnavailable(f"cannot make the folder of logs: {error}") from error
        script = SCRIPT.format(
            prologue="\n".join(self._slurm.prologue),
            command=shlex.join([*self._slurm.python, *self._terms.command(kept=kept)]),
            token_file=shlex.quote(str(self._slurm.token_file)),
            data=self._slurm.data,
            base=base,
        )
        defaults = ["--requeue", "--open-mode=append", f"--output={self._slurm.logs}/{base}-%j.log"]
        fixed = ["--parsable", f"--job-name={base}"]  # by which they are found again
        words = ["sbatch", *defaults, *self._slurm.options, *fixed]
        # It prints the number, and the name of a cluster where there are several.
        numbers = (_ask(*words, given=script).strip().split(";")[0] for _ in range(number))
        return [Pilot(number, f"{base}-{number}", "waits") for number in numbers]

    def list(self) -> list[Pilot]:
        """Jobs of the pool's name and this user that have not ended; what Slurm holds back since it
        took their node may begin."""
        names = ",".join(self._terms.base(kept=kept) for kept in (False, True))
        # By name, not --me, which early releases do not have.
        user = pwd.getpwuid(os.getuid()).pw_name
        asked = ["--noheader", f"--user={user}", f"--name={names}", "--states=all"]
        pilots: list[Pilot] = []
        for line in _ask("squeue", *asked, "--format=%A|%T|%j|%r").splitlines():
            number, said, base, why = line.split("|", 3)
            state = "held" if why.replace("_", " ") == HELD else STATES.get(said)
            if state is not None:
                why = "" if why == "None" else why
                pilots.append(Pilot(number, f"{base}-{number}", state, why))
        self._hasten([pilot for pilot in pilots if pilot.why == AFTER_A_LOSS])
        return sorted(pilots, key=lambda pilot: int(pilot.id))

    def _hasten(self, pilots: Sequence[Pilot]) -> None:
        if any(option.startswith("--begin") for option in self._slurm.options):
            return
        for pilot in pilots:
            with suppress(EngineUnavailable):  # it has begun, ended, or is not cleaned up yet
                _ask("scontrol", "update", f"jobid={pilot.id}", "starttime=now")

    def stop(self, pilots: Sequence[Pilot]) -> None:
        """Cancel what waits; tell the others, which Slurm then does not kill."""
        by_state: dict[PilotState, list[str]] = {}
        for pilot in pilots:
            by_state.setdefault(pilot.state, []).append(pilot.id)
        how: dict[PilotState, tuple[str, ...]] = {
            "runs": ("--batch", "--signal=TERM"),
            "waits": ("--state=PENDING",),  # what has begun meanwhile is not cancelled
            "held": (),
            "ends": (),
        }
        failures: list[EngineUnavailable] = []
        for state, words in how.items():
            if state in by_state:
                try:
                    _ask("scancel", *words, *by_state[state])
                except EngineUnavailable as error:  # perhaps one has just ended
                    failures.append(error)
        if failures:
            raise failures[0]


def _ask(*words: str, given: str | None = None) -> str:
    """What one of Slurm's commands prints."""
    try:
        done = subprocess.run(
            words,
            env={key: text for key, text in without_tokens().items() if key not in OTHER_CLUSTERS},
            input=given,
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EngineUnavailable(f"{words[0]} did not answer within {ANSWER_S:.0f} s") from None
    except OSError as error:
        raise EngineUnavailable(f"cannot run {words[0]}: {error.strerror}") from error
    if done.returncode:
        raise EngineUnavailable(f"{words[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout

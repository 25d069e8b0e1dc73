"""The whole service under kills, pauses, a bad network and a clock that jumps.

Jobs come and are trained all the time. No epoch that was once seen on record may be another later
(an attempt that goes on from a checkpoint computes those after it again), every job must succeed by
itself, and its epochs must be bit for bit those of a run that nothing happened to.
"""

import contextlib
import hashlib
import os
import signal
import time
from pathlib import Path
from random import Random
from typing import Any

import torch

from server.client import ApiProblem, ServerUnreachable
from server.wire.states import TERMINAL
from tests.chaos.house import LEASE_S, SLOTS, House
from tests.chaos.proof import Counted

Row = dict[str, Any]
SEEDS = 4
CONFIG: dict[str, Any] = {
    "num_orbits": 16,
    "resample_each_epoch": True,
    "steps_per_epoch": 6,
    "epochs": 25,
    "replay_steps": 20,
    "replay_batch_size": 48,
    "hidden_dims": [16, 16],
    "dropout": 0.1,
    "lr": 1e-3,
    "min_efficiency": 1.0,
    "checkpoint_every": 7,
    "evaluation_orbits": 2,
}
PATIENCE_S = 120.0  # for the jobs that are left when the last fault is over
DAY_S = 86_400.0
LONGEST_PAUSE_S = 1.5 * LEASE_S
KILLS = {"child": 7, "server": 3, "agent": 1, "all": 1}
OTHERS = {"pause child": 2, "pause agent": 2, "pause server": 2, "storm": 4, "cut": 4, "clock": 3}


class Watched:
    """The jobs of a house: what was seen of them, and what was found wrong."""

    def __init__(self, house: House, random: Random) -> None:
        self._house, self._random = house, random
        self._undisturbed: dict[int, list[Row]] = {}
        self._open: dict[str, int] = {}  # and the seed of each
        self._asked = 0
        self.broken: list[str] = []
        self.jobs = self.resumed = self.rows = 0

    def learn(self) -> None:
        """How the runs go when nothing happens."""
        client = self._house.client
        asked = {
            seed: client.submit({**CONFIG, "seed": seed}, max_attempts=100)["id"]
            for seed in range(SEEDS)
        }
        for seed, job_id in asked.items():
            client.wait(job_id)
            self._undisturbed[seed] = [_comparable(row) for row in client.all_metrics(job_id)]

    def look(self) -> None:
        """Start what has died, submit, read what is on record, and judge what is over. That the
        server is away is no fault."""
        self._house.keep_up()
        with contextlib.suppress(ServerUnreachable):
            for job_id in list(self._open):
                self._see(job_id)
            while len(self._open) <= SLOTS:
                self._submit()

    def wait_for_the_rest(self) -> None:
        """The faults are over: all that is left must end by itself."""
        deadline = time.monotonic() + PATIENCE_S
        while self._open and time.monotonic() < deadline:
            self._house.keep_up()
            with contextlib.suppress(ServerUnreachable):
                for job_id in list(self._open):
                    self._see(job_id)
            time.sleep(0.2)
        self.broken += [f"{job_id} does not end" for job_id in self._open]

    def _submit(self) -> None:
        seed = self._random.randrange(SEEDS)
        key = f"chaos-{self._asked}"  # the same again where the answer was lost
        config = {**CONFIG, "seed": seed}
        job = self._house.client.submit(config, idempotency_key=key, max_attempts=100)
        self._open[job["id"]] = seed
        self._asked += 1

    def _see(self, job_id: str) -> None:
        client = self._house.client
        try:
            job = client.job(job_id)
            rows = [_comparable(row) for row in client.all_metrics(job_id)]
        except ApiProblem as error:
            if error.status >= 500:  # it is going down, and says so
                raise ServerUnreachable("", str(error)) from error
            self._forget(job_id, f"{job_id} is gone: {error}")
            return
        undisturbed, wrong = self._undisturbed[self._open[job_id]], None
        if rows != undisturbed[: len(rows)]:
            wrong = f"{job_id} has other epochs in attempt {job['attempt']}"
        elif job["status"] in TERMINAL:
            if job["status"] != "succeeded" or len(rows) < len(undisturbed):
                wrong = f"{job_id} {job['status']} with {len(rows)} epochs: {job['failure']}"
            elif damaged := self._damaged(job_id):
                wrong = f"{job_id} lists what is not whole: {damaged}"
            self.jobs += 1
            self.rows += len(rows)
            self.resumed += job["attempt"] - 1
        else:
            return
        self._forget(job_id, wrong)

    def _damaged(self, job_id: str) -> list[str]:
        damaged: list[str] = []
        for checkpoint in self._house.client.checkpoints(job_id)["data"]:
            path = self._house.data / checkpoint["path"]
            content = path.read_bytes() if path.exists() else b""
            if hashlib.sha256(content).hexdigest() != checkpoint["sha256"]:
                damaged.append(checkpoint["path"])
            else:
                torch.load(path, weights_only=True)
        return damaged

    def _forget(self, job_id: str, wrong: str | None) -> None:
        del self._open[job_id]
        if wrong is not None:
            self.broken.append(wrong)


def run_kills(random: Random, rounds: int, folder: Path, protected: bool) -> Counted:
    """Each round kills something with SIGKILL."""
    return _run(random, rounds, folder, protected, KILLS)


def run_others(random: Random, rounds: int, folder: Path, protected: bool) -> Counted:
    """Each round is a pause, a storm in the network, or a jump of the server's clock."""
    return _run(random, rounds, folder, protected, OTHERS)


def _run(
    random: Random, rounds: int, folder: Path, protected: bool, faults: dict[str, int]
) -> Counted:
    done = 0
    with House(folder, random, forgetful=not protected) as house:
        house.keep_up()
        watched = Watched(house, random)
        watched.learn()
        watched.look()
        names, weights = list(faults), list(faults.values())
        while done < rounds and (protected or not watched.broken):
            _do(random.choices(names, weights)[0], house, watched, random)
            watched.look()
            done += 1
            time.sleep(random.uniform(0, 0.5))
        house.network.trouble = 0.0
        if protected:
            watched.wait_for_the_rest()
    note = f"{watched.jobs} jobs, {watched.rows} epochs, {watched.resumed} attempts that went on"
    return Counted(done, len(watched.broken), note, watched.broken)


def _do(fault: str, house: House, watched: Watched, random: Random) -> None:
    """One fault; of what is killed or stopped it waits until it is at work."""
    what, _, victim = fault.rpartition(" ")
    if fault == "storm":
        house.network.trouble = 0.0 if house.network.trouble else random.uniform(0.1, 0.6)
    elif fault == "cut":
        house.network.cut()
    elif fault == "clock":
        house.move_clock(random.choice((0.0, DAY_S, -DAY_S, 3600.0)))
    elif what == "pause":
        _await(victim, house, watched)
        _signal(house, victim, signal.SIGSTOP, random)
        time.sleep(random.uniform(0, LONGEST_PAUSE_S))
        _signal(house, victim, signal.SIGCONT, random, everyone=True)
    else:
        _await(victim, house, watched)
        for name in ("server", "agent") if victim == "all" else (victim,):
            _signal(house, name, signal.SIGKILL, random)


def _await(victim: str, house: House, watched: Watched) -> None:
    """Return once a victim does something: a server answers, an agent has a child."""
    deadline = time.monotonic() + PATIENCE_S
    while not (house.answers() if victim == "server" else house.children()):
        assert time.monotonic() < deadline, "nothing is at work any more"
        watched.look()
        time.sleep(0.02)


def _signal(
    house: House, victim: str, number: signal.Signals, random: Random, *, everyone: bool = False
) -> None:
    pids = house.pids(victim)
    for pid in pids if everyone else random.sample(pids, min(1, len(pids))):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _comparable(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "epoch_time"}

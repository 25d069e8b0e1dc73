"""The scorecard: `python -m tests.chaos` runs every proof and its control; `--quick` fewer rounds.

With one seed the same faults come at the same places of the same work; when a process dies is the
machine's affair.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from server.cli.tables import duration
from tests.chaos import (
    any_order,
    checkpoint_kills,
    claim_races,
    disk_trouble,
    fuzz,
    power_cuts,
    service_faults,
    stale_writes,
    wandb_kills,
)
from tests.chaos.proof import Counted, Proof

PROOFS = {
    "power_cuts": Proof("acknowledged, lost", power_cuts.run, 20_000, 150, 20, "strace"),
    "checkpoint_kills": Proof("unreadable files", checkpoint_kills.run, 5000, 150, 150),
    "claim_races": Proof("jobs taken twice", claim_races.run, 1_000_000, 2000, 2000),
    "stale_writes": Proof("accepted", stale_writes.run, 100_000, 1000, 1000),
    "disk_trouble": Proof("lost, or not told", disk_trouble.run, 300, 3, 20, "strace"),
    "any_order": Proof("rules broken", any_order.run, 1_000_000, 2500, 2000),
    "fuzz": Proof("5xx", fuzz.run, 200_000, 700, 700),
    "wandb_kills": Proof("epochs lost, or twice", wandb_kills.run, 400, 2, 3),
    "service_kills": Proof("jobs not whole", service_faults.run_kills, 2000, 12, 300),
    "service_faults": Proof("jobs not whole", service_faults.run_others, 2000, 20, 300),
}


def main() -> int:
    """Print the card; the exit code says whether all promises held and all controls failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="as many rounds as CI has time for")
    parser.add_argument("--rounds", type=int, help="of each proof; default: what its promise needs")
    parser.add_argument("--out", type=Path, help="put the lines in this JSON file, too")
    parser.add_argument("proofs", nargs="*", choices=[*PROOFS, []], help="default: all")
    options = parser.parse_args()
    machine = f"{platform.platform()}, {os.cpu_count()} cores"
    commit = _commit()
    print(f"seed {options.seed}, commit {commit}, {machine}")
    print(f"{'proof':18} {'rounds':>9} {'promise':20} {'broken':>7} {'control':>8} {'time':>8}")
    failed = False
    for name in options.proofs or PROOFS:
        proof = PROOFS[name]
        if proof.needs is not None and shutil.which(proof.needs) is None:
            print(f"{name:18} not tried: {proof.needs} is not installed", flush=True)
            continue
        began = time.monotonic()
        rounds = options.rounds or (proof.quick_rounds if options.quick else proof.rounds)
        counted, control = count(proof, options.seed, rounds), control_of(proof, options.seed)
        failed |= counted.broken > 0 or control == 0
        seconds = duration(time.monotonic() - began)
        if (now := _commit()) != commit:  # servers and workers of later rounds were of other code
            commit = f"{commit} … {now}"
            print(f"{name:18} the code was changed meanwhile: {commit}", flush=True)
        line = f"{name:18} {counted.rounds:9} {proof.promise:20} {counted.broken:7} {control:8}"
        print(f"{line} {seconds:>8}  {counted.note}", flush=True)
        for what in counted.found:
            print(f"  {what}", flush=True)
        if options.out is not None:
            about = {"seed": options.seed, "commit": commit, "machine": machine}
            _note(options.out, name, counted, control, about)
    return int(failed)


def count(proof: Proof, seed: int, rounds: int, *, protected: bool = True) -> Counted:
    """Try a promise so often."""
    with tempfile.TemporaryDirectory() as folder:
        return proof.run(Random(seed), rounds, Path(folder), protected)


def control_of(proof: Proof, seed: int) -> int:
    """The same without the protection: what the proof would find."""
    return count(proof, seed, proof.control_rounds, protected=False).broken


def _note(
    path: Path, name: str, counted: Counted, control: int, about: dict[str, int | str]
) -> None:
    """One line of the card, in a file that keeps the others."""
    card = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    card[name] = {
        "promise": PROOFS[name].promise,
        "rounds": counted.rounds,
        "broken": counted.broken,
        "control": control,
        "note": counted.note,
        **about,
    }
    path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())

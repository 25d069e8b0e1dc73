"""What the API answered, as tables and lines for people."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

Json = dict[str, Any]
SILENCE_S = 90.0  # the server notes once a minute which workers are there
TOO_OFTEN = 3e-3  # that a step violates which is calibrated to 0.1 %
COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


def duration(seconds: float | None) -> str:
    """Seconds for people: `1:02:03`, `2:03`, `3.2 s`."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def number(value: float | None, form: str) -> str:
    """A value, or a dash."""
    return "-" if value is None else format(value, form)


def status_text(status: str) -> Text:
    """A status in its colour."""
    return Text(status, COLOURS.get(status, "white"))


def jobs_table(jobs: list[Json]) -> Table:
    """Jobs, one a line; of waiting ones also what holds them up, and what was asked for."""
    held_up = any(job.get("waits_for") for job in jobs)
    more = list(jobs[0].get("values", ())) if jobs else []
    table = Table("id", "name", "status", "epochs", "attempt", "created", *more, box=None)
    if held_up:
        table.add_column("waits for", overflow="fold")
    for job in jobs:
        why = [job["waits_for"] or "its turn"] if held_up else []
        values = [_value(job["values"][name]) for name in more]
        table.add_row(
            job["id"],
            job["name"] or "-",
            status_text(job["status"]),
            _epochs(job),
            str(job["attempt"]),
            _local_time(job["created_at"]),
            *values,
            *why,
        )
    return table


def _value(value: Any) -> str:
    """What a column holds, in a few characters."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def _epochs(job: Json) -> str:
    """How far a training is; of other jobs, their kind."""
    progress = job["progress"]
    if not progress["epochs_total"]:
        return job["kind"]
    return f"{progress['epochs_done']}/{progress['epochs_total']}"


def workers_table(workers: list[Json]) -> Table:
    """Workers, one a line."""
    table = Table("id", "name", "host", "slots", "memory", "gpus", "last seen", "jobs", box=None)
    for worker in workers:
        seen = worker["last_seen_at"]
        table.add_row(
            worker["id"],
            f"{worker['name']}{_mark_of(worker)}",
            worker["host"],
            str(worker["slots"]),
            _gib(worker["memory_bytes"]),
            ", ".join(gpu["name"] for gpu in worker["gpus"]) or "–",
            "–" if seen is None else _local_time(seen),
            " ".join(worker["jobs"]) or "–",
        )
    return table


def _gib(size: int | None) -> str:
    return "–" if size is None else f"{size / 2**30:.0f} GiB"


def _mark_of(worker: Json) -> str:
    if worker.get("refusal"):
        return " (refused: `orrery doctor` says why)"
    if worker.get("left_at"):
        return " (has ended)"
    seen = worker["last_seen_at"]
    if (
        seen is None
        or (datetime.now(UTC) - datetime.fromisoformat(seen)).total_seconds() > SILENCE_S
    ):
        return " (not heard of any more)"
    if trouble := worker.get("trouble"):
        return f" ({trouble.partition(':')[0]}: `orrery doctor` says more)"
    return " (draining)" if worker["draining"] else ""


def audit_table(entries: list[Json]) -> Table:
    """What people did, one deed a line."""
    table = Table("at", "token", "action", "on", box=None)
    for entry in entries:
        at = _local_time(entry["at"])
        table.add_row(at, entry["token_id"], entry["action"], entry["target"])
    return table


def tokens_table(tokens: list[Json]) -> Table:
    """Tokens, one a line."""
    table = Table("id", "name", "role", "created", "expires", "revoked", box=None)
    for token in tokens:
        instants = (token[key] for key in ("created_at", "expires_at", "revoked_at"))
        table.add_row(token["id"], token["name"], token["role"], *map(_local_time, instants))
    return table


def _local_time(instant: str | None) -> str:
    if instant is None:
        return "-"
    return f"{datetime.fromisoformat(instant).astimezone():%Y-%m-%d %H:%M:%S}"


def attempts_table(attempts: list[Json]) -> Table:
    """Attempts, one a line."""
    head = ("attempt", "worker", "host", "on", "seed", "from epoch", "started", "ended", "how")
    table = Table(*head, box=None)
    for attempt in attempts:
        started, ended = (_local_time(attempt[key]) for key in ("started_at", "ended_at"))
        how = " ".join(filter(None, (attempt["status"], attempt["stop_reason"]))) or "-"
        first = "-" if attempt["first_epoch"] is None else str(attempt["first_epoch"])
        place: Json = attempt["whereabouts"] or {}
        on = place.get("gpu") or place.get("device")
        where = place.get("host"), on, place.get("seed")
        shown = ["-" if each is None else str(each) for each in where]
        table.add_row(str(attempt["id"]), attempt["worker_id"], *shown, first, started, ended, how)
    return table


def comparison_table(comparison: Json) -> Table:
    """Epochs as rows; for each job and metric a column."""
    columns = [(job, key) for job in comparison["data"] for key in comparison["keys"]]
    table = Table("epoch", *(f"{job[-8:]} {key}" for job, key in columns), box=None)
    series = {job: {row["epoch"]: row for row in rows} for job, rows in comparison["data"].items()}
    for epoch in sorted({epoch for rows in series.values() for epoch in rows}):
        values = (series[job].get(epoch, {}).get(key) for job, key in columns)
        table.add_row(str(epoch), *(number(value, ".6g") for value in values))
    return table


def job_table(job: Json) -> Table:
    """A job, one field a line."""
    table = Table("field", Column("value", overflow="fold"), box=None, show_header=False)
    failure, last = job["failure"], job["latest_checkpoint"]
    rows = {
        "id": job["id"],
        "name": job["name"] or "-",
        "status": status_text(job["status"]),
        "priority": job["priority"] or None,
        **{f"label {key}": text for key, text in job["metadata"].items()},
        "notes": job["notes"] or None,
        "only on": _only_on(job["requires"]),
        "phase": job["phase"],
        "queue position": job["queue_position"],
        "waits for": job["waits_for"],
        "epochs": _epochs(job),
        "attempt": job["attempt"],
        "time left": job["eta_s"] and duration(job["eta_s"]),
        "failure": failure and f"{failure['code']}: {failure['detail']}",
        "stop reason": None if failure else job["stop_reason"],
        "warning": "\n".join(job["warnings"]) or None,
        **{name: number(value, "g") for name, value in _metrics(job).items()},
        "latest checkpoint": last and last["path"],
    }
    for name, value in rows.items():
        if value is not None:
            table.add_row(name, value if isinstance(value, Text) else str(value))
    return table


def _only_on(requires: Json) -> str | None:
    """What is asked of workers, in words."""
    gpu = "a GPU" if requires["gpus"] or requires["gpu_memory"] else None
    if requires["gpu_memory"]:
        gpu = f"a GPU of {requires['gpu_memory'] / 2**30:g} GiB or more"
    parts = [gpu, *(f"{key}={text}" for key, text in requires["labels"].items())]
    return ", ".join(part for part in parts if part) or None


def metrics_table(rows: list[Json]) -> Table:
    """Epochs, one a line."""
    names = list(rows[0]) if rows else ["epoch"]
    table = Table(*names, box=None)
    for row in rows:
        table.add_row(*(number(row[name], ".4g") for name in names))
    return table


def checkpoints_table(checkpoints: list[Json]) -> Table:
    """Checkpoints, one a line; the best and those of bad epochs are marked."""
    head = ("id", "epoch", "bytes", "pass", "η", "", Column("path", overflow="fold"))
    table = Table(*head, box=None)
    best = max(checkpoints, key=_merit, default=None)
    for checkpoint in checkpoints:
        good, _, _ = _merit(checkpoint)
        is_best = checkpoint is best and good and len(checkpoints) > 1
        known = checkpoint["pass_rate"] is not None
        table.add_row(
            checkpoint["id"],
            str(checkpoint["epoch"]),
            f"{checkpoint['bytes']:,}",
            number(checkpoint["pass_rate"], ".3g"),
            number(checkpoint["efficiency"], ".3f"),
            "best" if is_best else "bad epoch" if known and not good else "",
            checkpoint["path"],
        )
    return table


def _merit(checkpoint: Json) -> tuple[bool, float, int]:
    """How checkpoints are ranked: of a good epoch, how efficient, how late."""
    from nbody.metrics import GOOD_PASS_RATE  # noqa: PLC0415 - takes as long as all else

    good = (checkpoint["pass_rate"] or 0.0) >= GOOD_PASS_RATE
    return good, checkpoint["efficiency"] or 0.0, checkpoint["epoch"]


def artifacts_table(artifacts: list[Json]) -> Table:
    """Files of a simulation or an evaluation, one a line."""
    table = Table("id", "name", "bytes", Column("path", overflow="fold"), box=None)
    for artifact in artifacts:
        table.add_row(artifact["id"], artifact["name"], f"{artifact['bytes']:,}", artifact["path"])
    return table


def sent_files_table(files: list[Json]) -> Table:
    """Files of initial conditions, one a line."""
    table = Table("id", "name", "bodies", "bytes", Column("ic_path", overflow="fold"), box=None)
    for file in files:
        bodies = f"{file['num_particles']} in {file['dim']}D"
        table.add_row(file["id"], file["name"], bodies, f"{file['bytes']:,}", file["path"])
    return table


def failures_table(states: list[Json]) -> Table:
    """Held-out states that violate, the worst first."""
    known = ["eccentricity"] if states and "eccentricity" in states[0] else []
    table = Table("system", "state", *known, "|ΔE/E|", "threshold", "dt", "dt/dt*", box=None)
    for each in states:
        table.add_row(
            str(each["system"]),
            str(each["state"]),
            *[number(each[name], ".4f") for name in known],
            number(each["energy_error"], ".2e"),
            number(each["threshold"], ".2e"),
            number(each["dt"], ".3e"),
            number(each["dt"] and each["dt"] / each["dt_star"], ".3f"),
        )
    return table


def whole_job(job: Json) -> RenderableType:
    """A job, and how good its stepper is where that is known."""
    return Group(job_table(job), *([result_table(job)] if job["result"] else []))


def result_table(job: Json) -> Table:
    """What a job found, as its kind shows it."""
    kind, result = job["kind"], job["result"]
    return RESULT_TABLES[kind](result) if kind in RESULT_TABLES else _numbers_table(kind, result)


def _numbers_table(heading: str, result: Json) -> Table:
    """Whatever a job found, one thing a line."""
    table = Table(heading, "", box=None)
    for name, value in result.items():
        shown = number(value, ".6g") if isinstance(value, float | int | None) else _plain(value)
        table.add_row(name.replace("_", " "), shown)
    return table


def _simulation_table(result: Json) -> Table:
    """What a run cost and kept, each body's orbit, and what to be careful about."""
    nested = ("systems", "warnings")
    table = _numbers_table("simulation", {k: v for k, v in result.items() if k not in nested})
    systems: list[Json] = result.get("systems") or []
    for number_, system in enumerate(systems):
        of = f" of system {number_}" if len(systems) > 1 else ""
        ends: Json = system.get("orbits") or {}
        for first, last in zip(ends.get("initial", []), ends.get("final", []), strict=True):
            table.add_row(
                f"body {first['body']}{of}, about {last['around']}",
                f"a {number(first['semi_major_axis'], '.6g')} → "
                f"{number(last['semi_major_axis'], '.6g')}, "
                f"e {number(first['eccentricity'], '.4f')} → {number(last['eccentricity'], '.4f')}",
            )
        if closest := system.get("closest"):
            one, other = closest["bodies"]
            where = f"{number(closest['distance'], '.4g')} at t = {number(closest['time'], '.6g')}"
            table.add_row(f"closest{of}", f"bodies {one} and {other}, {where}")
    warnings: list[str] = result.get("warnings") or []
    for text in warnings:
        table.add_row(Text("warning", "yellow"), _plain(text))
    return table


def _criteria_table(result: Json) -> Table:
    """A stepper's scores beside every criterion's."""
    table = Table("on held-out systems", "calibrated η", "at V", "as it is η", "V")
    for name, score in result["scores"].items():
        shown = ("calibrated_efficiency", ".3f"), ("calibrated_violation_rate", ".2%")
        shown += ("efficiency", ".3f"), ("violation_rate", ".2%")
        table.add_row(name, *(number(score[key], form) for key, form in shown))
    return table


def _scores_table(result: Json) -> Table:
    """The figure of merit on held-out systems, beside the free-fall criterion's."""
    table = Table("on held-out systems", "efficiency η", "violation rate V", title_justify="left")
    stepper, classical = result["stepper"], result["free_fall"]

    def row(name: str, efficiency: float, violation: float) -> None:
        table.add_row(name, f"{efficiency:.3f}", f"{violation:.2%}")

    row("trained stepper, as it is", stepper["efficiency"], stepper["violation_rate"])
    for name, scores in (("trained stepper", stepper), ("free-fall criterion", classical)):
        efficiency, violation = scores["calibrated_efficiency"], scores["calibrated_violation_rate"]
        row(f"{name}, calibrated to V <= 0.1 % on other systems", efficiency, violation)
    if stepper["calibrated_violation_rate"] > TOO_OFTEN:
        few = "the calibration did not hold: too few held-out systems (evaluation_orbits)"
        table.add_row(Text("warning", "yellow"), Text(few), "")
    return table


RESULT_TABLES: dict[str, Callable[[Json], Table]] = {  # of other kinds each number has a line
    "train": _scores_table,
    "simulate": _simulation_table,
    "evaluate": _criteria_table,
}


def sweeps_table(sweeps: list[Json]) -> Table:
    """Sweeps, one a line."""
    table = Table("id", "name", "status", "trials", "objective", "created", box=None)
    for sweep in sweeps:
        done = sum(sweep["trials"].values()) - sweep["trials"].get("running", 0)
        table.add_row(
            sweep["id"],
            sweep["name"] or "–",
            sweep["status"],
            f"{done}/{sweep['n_trials']}",
            f"{sweep['direction']} {sweep['objective']}",
            _local_time(sweep["created_at"]),
        )
    return table


def trials_table(trials: list[Json]) -> Table:
    """Trials, one a line."""
    table = Table("trial", "job", "state", "value", Column("fields", overflow="fold"), box=None)
    for trial in trials:
        fields = " ".join(f"{key}={_plain(value)}" for key, value in trial["params"].items())
        value = number(trial["value"], ".6g")
        table.add_row(str(trial["id"]), trial["job_id"] or "–", trial["state"], value, fields)
    return table


def job_line(job: Json) -> str:
    """Where a job is, as a line of text."""
    return f"{job['id']}: {job['status']}, {_epochs(job)}"


def validation(report: Json) -> str:
    """What would run."""
    megabytes = report["estimated_memory_bytes"] / 1e6
    size = f"{report['parameter_count']:,} parameters, about {megabytes:.0f} MB of memory"
    if on_gpu := report.get("estimated_gpu_memory_bytes"):
        size += f" ({on_gpu / 1e6:.0f} MB of a GPU's, where it trains on one)"
    if saved := report.get("estimated_checkpoint_bytes"):
        size += f", {max(1, round(saved / 1e6)):,} MB of checkpoints"
    lines = [size, *(f"warning: {warning}" for warning in report["warnings"])]
    if report.get("waits_for"):
        lines.append(f"it would wait for {report['waits_for']}")
    return "\n".join(lines)


def sweep_line(sweep: Json) -> str:
    """How far a sweep is, as a line of text."""
    done = sum(sweep["trials"].values()) - sweep["trials"].get("running", 0)
    best = "" if sweep["best"] is None else f", best {number(sweep['best']['value'], '.6g')}"
    return f"{sweep['id']}: {sweep['status']}, {done} of {sweep['n_trials']} trials{best}"


def whole_sweep(sweep: Json) -> RenderableType:
    """A sweep, its best trial, and which fields matter."""
    shown: list[RenderableType] = [sweeps_table([sweep])]
    if sweep["failure"]:
        shown.append(sweep["failure"])
    if sweep["best"]:
        shown += ["best:", trials_table([sweep["best"]])]
    if sweep["importance"]:
        shares = (f"{name} {share:.0%}" for name, share in sweep["importance"].items())
        shown.append(f"what matters: {', '.join(shares)}")
    return Group(*shown)


def _plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value)


def _metrics(job: Json) -> Json:
    return job["latest_metrics"] or {}


def ids_of(items: list[dict[str, Any]]) -> str:
    """Of things that have ids, one a line."""
    return "\n".join(item["id"] for item in items)

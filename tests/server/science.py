"""Jobs with the files that scores and simulations leave: small ones, made by hand."""

import hashlib
import json
import math
import uuid
from typing import Any

from server.wire.kinds import KINDS
from tests.server.conftest import OrreryServer

K = 16  # states of an orbit


def ellipse(scale: float = 1.0) -> list[list[list[float]]]:
    """Positions (K, 2, 2) of two bodies around their centre."""
    angles = [2 * math.pi * k / K for k in range(K)]
    half = [(scale * (math.cos(a) - 0.5), scale * 0.8 * math.sin(a)) for a in angles]
    return [[[x, y], [-x, -y]] for x, y in half]


def failing_orbit(system: int, errors: list[float]) -> dict[str, Any]:
    return {
        "system": system,
        "threshold": 2e-4,
        "mass": [1.0, 0.5],
        "position": ellipse(),
        "velocity": ellipse(0.1),
        "interval": [0.1] * K,
        "dt": [0.01 * (1 + k) for k in range(K)],
        "dt_star": [0.02] * K,
        "energy_error": errors + [1e-5] * (K - len(errors)),
        "eccentricity": 0.9,
    }


HELD_OUT = {
    "rule": "stepper",
    "systems": 64,
    "states": 64 * K,
    "violations": 3,
    "systems_with_violations": 2,
    "ratios": {
        "edges": [0.01, 0.1, 1.0, 10.0],
        "shares": {"stepper": [0.1, 0.85, 0.05], "free_fall": [0.6, 0.4, 0.0]},
    },
    "by_eccentricity": [
        {"from": 0.6, "to": 0.8, "states": 8, "efficiency": {"stepper": 0.9, "free_fall": 0.5}},
        {"from": 0.8, "to": 0.9, "states": 8, "efficiency": {"stepper": 0.8, "free_fall": 0.4}},
    ],
    "orbits": [failing_orbit(7, [1e-3, 3e-4]), failing_orbit(3, [5e-4])],
}
WAY = {
    "rule": "reversible",
    "threshold": 2e-4,
    "states": 400,
    "bodies": 2,
    "time": [0.1 * k for k in range(K)],
    "mass": [1.0, 0.5],
    "position": ellipse(),
    "dt": [0.01 * (1 + k) for k in range(K)],
    "energy_error": [0.0] + [1e-6 * k for k in range(1, K)],
}


def leave(server: OrreryServer, assignment: dict[str, Any], name: str, content: Any) -> None:
    """A file of an attempt, with what it holds."""
    data = json.dumps(content).encode()
    path = f"{assignment['output_folder']}/{name}"
    place = server.settings.data / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    file = {"path": path, "bytes": len(data), "sha256": sha256}
    answer = server.report(assignment["lease_id"], first_epoch=0, artifacts=[file])
    assert answer.status_code == 200, answer.text


def a_scored_training(server: OrreryServer, name: str = "scored") -> dict[str, Any]:
    job, assignment = server.start(
        name=name, config={"epochs": 1, "num_orbits": 8, "lr": 0.002, "seed": 5}
    )
    leave(server, assignment, "held_out.json", HELD_OUT)
    scores = {
        rule: {"efficiency": 0.9, "violation_rate": 0.01, "calibrated_efficiency": merit}
        for rule, merit in (("stepper", 0.93), ("free_fall", 0.45))
    }
    server.finish(assignment["lease_id"], result=scores)
    return job


def start(server: OrreryServer, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A job, and its assignment to a worker that takes all kinds."""
    job = server.submit(**fields)
    body = {"claim_id": uuid.uuid4().hex, "kinds": list(KINDS)}
    answer = server.worker.post(f"/v1/workers/{server.register()}/claim", json=body)
    assert answer.status_code == 200, answer.text
    return job, answer.json()


def a_simulation(
    server: OrreryServer, name: str, *, forces: int, error: float, rule: str = "fixed"
) -> dict[str, Any]:
    config = {"initial_conditions": "kepler", "integrator_mode": rule, "Nperiod": 1}
    job, assignment = start(server, kind="simulate", name=name, config=config)
    leave(server, assignment, "orbit.json", WAY)
    result = {"force_evaluations": forces, "max_energy_error": error, "final_time": 6.28}
    server.finish(assignment["lease_id"], result={**result, "systems": [], "warnings": []})
    return job

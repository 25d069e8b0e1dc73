"""The physics on the pages: where a stepper fails, the orbits, what simulations cost and keep."""

import hashlib
import json
import math
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from server.wire.kinds import KINDS
from tests.server.conftest import OrreryServer
from tests.server.dashboard.test_pages import AXE_OPTIONS, axe
from tests.server.dashboard.test_tour import train

OpenPage = Callable[..., Any]
K = 16


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


def test_a_failing_state_is_one_click_from_its_orbit(
    server: OrreryServer, open_page: OpenPage
) -> None:
    job = a_scored_training(server)
    page = open_page(server)
    page.goto(f"/#/job/{job['id']}")
    page.get_by_text("3 of 1024 steps violate, in 2 of 64 systems").wait_for()
    page.get_by_role("img", name="η over eccentricity").wait_for()
    page.get_by_role("img", name="share of states").wait_for()
    page.get_by_role("link", name="7", exact=True).click()
    page.get_by_role("img", name="2 bodies, 16 states").wait_for()
    page.get_by_text("|ΔE/E| = 0.001").wait_for()
    assert "orbit=7" in page.url
    page.reload()
    page.get_by_role("img", name="dt and dt* along system 7").wait_for()


def test_what_failed_is_trained_on_by_the_next_job(
    server: OrreryServer, open_page: OpenPage
) -> None:
    job = a_scored_training(server)
    page = open_page(server)
    page.goto(f"/#/job/{job['id']}")
    page.get_by_role("link", name="train on these").click()
    page.get_by_text("parameters", exact=True).wait_for()
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("heading", name="scored, with what failed").wait_for()
    newest = server.admin.get("/v1/jobs").json()["data"][0]
    config = server.job(newest["id"])["config"]
    first = HELD_OUT["orbits"][0]
    assert len(config["hard_systems"]) == 3
    assert config["hard_systems"][0] == [
        [m, *first["position"][0][n], *first["velocity"][0][n]] for n, m in enumerate([1.0, 0.5])
    ]
    assert (config["lr"], config["resample_each_epoch"]) == (0.002, True)


def test_an_evaluation_leads_to_the_training_of_its_stepper(
    server: OrreryServer, open_page: OpenPage
) -> None:
    trained = train(server, "first", [0.95], config={"lr": 0.003})
    body = {"stepper": {"job": trained["id"]}, "kind": "evaluate", "config": {}}
    job, assignment = start(server, **body)
    leave(server, assignment, "held_out.json", HELD_OUT | {"rule": "network"})
    server.finish(assignment["lease_id"], result={"scores": {}})
    page = open_page(server)
    page.goto(f"/#/job/{job['id']}")
    page.get_by_role("link", name="train on these").click()
    page.get_by_text("parameters", exact=True).wait_for()
    assert page.get_by_label("Name", exact=True).input_value() == "first, with what failed"
    assert page.get_by_label("lr", exact=False).first.is_visible()


def test_a_viewer_is_not_offered_to_train(server: OrreryServer, open_page: OpenPage) -> None:
    job = a_scored_training(server)
    page = open_page(server, role="viewer")
    page.goto(f"/#/job/{job['id']}")
    page.get_by_text("steps violate").wait_for()
    assert page.get_by_role("link", name="train on these").count() == 0


def test_a_simulation_moves(server: OrreryServer, open_page: OpenPage) -> None:
    job = a_simulation(server, "moving", forces=100, error=1e-5)
    page = open_page(server)
    page.goto(f"/#/job/{job['id']}")
    slider = page.get_by_label("state", exact=True)
    assert slider.input_value() == "0"
    slider.press("End")
    page.get_by_text("t = 1.5, dt = 0.16").wait_for()
    before = page.locator("canvas[role=img]").screenshot()
    slider.press("Home")
    page.get_by_text("t = 0, dt = 0.01").wait_for()
    assert page.locator("canvas[role=img]").screenshot() != before
    page.get_by_role("button", name="play").click()
    page.get_by_text("t = 1.5, dt = 0.16").wait_for()
    page.get_by_role("button", name="play").wait_for()


def test_an_orbit_is_saved(server: OrreryServer, open_page: OpenPage) -> None:
    job = a_simulation(server, "kept", forces=100, error=1e-5)
    page = open_page(server)
    page.goto(f"/#/job/{job['id']}")
    figure = page.locator("figure.chart").first
    begins = {"SVG": b"<svg", "PNG": b"\x89PNG", "CSV": b"time,dt,x0,y0,x1,y1\n0,0.01,0.5,0"}
    for name, start in begins.items():
        with page.expect_download() as download:
            figure.get_by_role("button", name=name).click()
        content = download.value.path().read_bytes()
        assert content.startswith(start)
        assert name != "SVG" or content.count(b"<circle") == 2 * K


def test_simulations_are_points_of_cost_and_error(
    server: OrreryServer, open_page: OpenPage
) -> None:
    for n, rule in enumerate(("fixed", "fixed", "analytic")):
        a_simulation(server, f"{rule} {n}", forces=100 * 10**n, error=10.0 ** -(n + 2), rule=rule)
    a_scored_training(server, "the stepper")
    page = open_page(server)
    page.goto("/#/science")
    page.get_by_role("cell", name="analytic 2").wait_for()
    assert page.get_by_label("log").is_checked()
    page.get_by_role("cell", name="0.93").wait_for()
    page.get_by_label("Filter").fill("config/integrator_mode=fixed")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("cell", name="analytic 2").wait_for(state="detached")
    assert page.get_by_role("cell", name="fixed 0").count() == 1
    with page.expect_download() as download:
        page.locator("figure.chart").get_by_role("button", name="SVG").click()
    figure = download.value.path().read_text()
    assert figure.count("<circle") == 2
    assert "force evaluations" in figure


@pytest.mark.slow
def test_the_physics_is_open_to_everybody(server: OrreryServer, open_page: OpenPage) -> None:
    scored = a_scored_training(server)
    moving = a_simulation(server, "moving", forces=100, error=1e-5)
    page = open_page(server)
    found: list[str] = []
    for address in (f"job/{scored['id']}?orbit=7", f"job/{moving['id']}", "science"):
        page.goto(f"/#/{address}")
        page.locator("figure.chart").first.wait_for()
        violations = axe.Axe().run(page, options=AXE_OPTIONS).response["violations"]
        found += [f"{address}: {v['id']}: {v['nodes'][0]['html'][:120]}" for v in violations]
    assert not found

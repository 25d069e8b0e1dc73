"""The physics on the pages: where a stepper fails, the orbits, what simulations cost and keep."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.server.conftest import OrreryServer
from tests.server.dashboard.test_pages import AXE_OPTIONS, axe
from tests.server.dashboard.test_tour import train
from tests.server.science import HELD_OUT, K, a_scored_training, a_simulation, leave, start

OpenPage = Callable[..., Any]


def test_a_failing_state_is_one_click_from_its_orbit(
    server: OrreryServer, open_page: OpenPage
) -> None:
    job = a_scored_training(server)
    page = open_page(server)
    page.goto(f"/#/job/{job['id']}")
    told = "3 of 1024 steps of the network as it is violate, in 2 of 64 systems"
    page.get_by_text(told).wait_for()
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
    page.get_by_role("heading", name="scored, with what failed", exact=True).wait_for()
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
    page.get_by_text("violate, in").wait_for()
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
    for name, begin in begins.items():
        with page.expect_download() as download:
            figure.get_by_role("button", name=name).click()
        content = download.value.path().read_bytes()
        assert content.startswith(begin)
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

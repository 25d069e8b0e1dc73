"""What a user does on the pages, one after the other, in a real browser."""

import csv
import io
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.patience import until
from tests.server.conftest import OrreryServer, checkpoint, epoch_metrics, log_bytes

OpenPage = Callable[..., Any]


def train(
    server: OrreryServer, name: str, efficiencies: list[float], *, over: bool = True, **fields: Any
) -> dict[str, Any]:
    """A job with epochs on record, and the lease of the worker that has it."""
    config = {"epochs": len(efficiencies), **fields.pop("config", {})}
    job, assignment = server.start(name=name, config=config, **fields)
    epochs = [
        epoch_metrics(n) | {"part2/efficiency": value} for n, value in enumerate(efficiencies)
    ]
    server.report(
        assignment["lease_id"],
        first_epoch=0,
        epochs=epochs,
        checkpoints=[checkpoint(assignment, 0)],
        log=log_bytes(0, f"{name} began\n".encode()),
    )
    if over:
        server.finish(assignment["lease_id"])
    return {**job, "lease_id": assignment["lease_id"]}


def test_a_user_signs_in_and_out(server: OrreryServer, open_page: OpenPage) -> None:
    page = open_page(server, role=None)
    page.goto("/")
    page.get_by_label("Token").fill("orrery_wrong")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("does not know that token").wait_for()
    page.get_by_label("Token").fill(server.new_token("user", "ada"))
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("ada (user)").wait_for()
    assert page.get_by_role("link", name="Admin").count() == 0
    page.get_by_role("button", name="Sign out").click()
    page.get_by_text("Signed out").wait_for()
    page.reload()
    page.get_by_label("Token").wait_for()


def test_no_page_keeps_a_token(server: OrreryServer, open_page: OpenPage) -> None:
    page = open_page(server)
    assert server.admin_token not in page.url
    kept = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert kept == '[{},{},""]'


def test_the_list_is_sorted_filtered_and_saved(server: OrreryServer, open_page: OpenPage) -> None:
    for name, value in (("one", 0.5), ("two", 0.75), ("three", 0.25)):
        train(server, name, [value])
    page = open_page(server)
    page.get_by_role("link", name="one", exact=True).wait_for()
    page.get_by_role("button", name="part2/efficiency", exact=True).click()
    page.locator("tbody tr").first.get_by_text("two").wait_for()
    shown = page.locator("tbody tr td:nth-child(2)").all_inner_texts()
    assert shown == ["two", "one", "three"]
    page.get_by_label("Only where").fill("part2/efficiency:max<0.6")
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_role("link", name="two", exact=True).wait_for(state="detached")
    assert "sort=-part2" in page.url.replace("%2F", "/")  # a link that shows what one sees
    page.reload()
    page.get_by_role("link", name="three", exact=True).wait_for()
    assert page.locator("tbody tr td:nth-child(2)").all_inner_texts() == ["one", "three"]
    with page.expect_download() as saved:
        page.get_by_role("link", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(saved.value.path().read_text())))
    assert [row["name"] for row in rows] == ["one", "three"]


def test_a_filter_that_is_none_says_what_is(server: OrreryServer, open_page: OpenPage) -> None:
    page = open_page(server)
    page.get_by_label("Only where").fill("efficiencyy>0.6")
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_text("no such column").first.wait_for()


def test_groups_show_mean_and_spread(server: OrreryServer, open_page: OpenPage) -> None:
    for seed, value in ((1, 0.5), (2, 0.7)):
        train(server, f"s{seed}", [value], config={"seed": seed})
    page = open_page(server)
    page.goto("/#/jobs?group=status")
    page.get_by_text("0.6 ± 0.14 (0.5 … 0.7)").wait_for()


def test_jobs_are_acted_on_together(server: OrreryServer, open_page: OpenPage) -> None:
    for n in range(3):
        server.submit(name=f"wait{n}")
    page = open_page(server)
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_label("choose all").check()
    page.get_by_role("button", name="cancel", exact=True).click()
    page.get_by_text("cancelled").nth(2).wait_for()
    assert all(job["status"] == "cancelled" for job in server.admin.get("/v1/jobs").json()["data"])


def test_a_viewer_sees_and_changes_nothing(server: OrreryServer, open_page: OpenPage) -> None:
    job = server.submit(name="seen")
    page = open_page(server, "viewer")
    page.get_by_role("link", name="seen").click()
    page.get_by_role("heading", name="seen").wait_for()
    for name in ("cancel", "pause", "rename"):
        assert page.get_by_role("button", name=name, exact=True).count() == 0
    assert page.get_by_role("link", name="Submit", exact=True).count() == 0
    assert server.job(job["id"])["status"] == "queued"


def test_a_job_is_followed_live(server: OrreryServer, open_page: OpenPage) -> None:
    job = train(server, "living", [0.5], over=False, config={"epochs": 3})
    page = open_page(server)
    page.get_by_role("link", name="living").click()
    page.get_by_text("1/3").first.wait_for()
    page.get_by_text("living began").wait_for()
    server.report(job["lease_id"], epochs=[epoch_metrics(1)], log=log_bytes(13, b"epoch 1\n"))
    page.get_by_text("2/3").first.wait_for()
    page.get_by_text("epoch 1").first.wait_for()
    server.finish(job["lease_id"])
    page.locator(".status.succeeded").first.wait_for()


def test_a_waiting_job_says_why(server: OrreryServer, open_page: OpenPage) -> None:
    server.submit(name="stuck", config={"device": "cuda"})
    page = open_page(server)
    page.get_by_role("link", name="Queue").click()
    page.get_by_text("a worker").first.wait_for()
    page.get_by_role("link", name="stuck").click()
    page.get_by_text("It waits for").wait_for()


def test_figures_are_saved_as_svg_png_and_csv(server: OrreryServer, open_page: OpenPage) -> None:
    job = train(server, "figure", [0.5, 0.6, 0.7])
    page = open_page(server)
    page.goto(f"/#/job/{job['id']}")
    wait_until_drawn(page)
    chart = page.locator("figure.chart").first
    kept: dict[str, bytes] = {}
    for form in ("SVG", "PNG", "CSV"):
        with page.expect_download() as saved:
            chart.get_by_role("button", name=form).click()
        kept[form] = saved.value.path().read_bytes()
    assert b"part2/efficiency</text>" in kept["SVG"]
    assert b"epoch</text>" in kept["SVG"]
    assert kept["PNG"].startswith(b"\x89PNG")
    assert kept["CSV"].decode().splitlines() == [
        "epoch,part2/efficiency",
        "0,0.5",
        "1,0.6",
        "2,0.7",
    ]


def test_a_training_is_submitted_by_its_form(server: OrreryServer, open_page: OpenPage) -> None:
    page = open_page(server)
    page.get_by_role("link", name="Submit", exact=True).click()
    page.get_by_label("Name", exact=True).fill("from the form")
    page.get_by_label("Begin with").select_option("kepler_demo")
    page.get_by_role("button", name="default of adam_beta2").wait_for()
    page.get_by_label("Find a field").fill("lr")
    field = page.locator("#field-lr")
    field.fill("-1")
    field.blur()
    page.get_by_text("greater than 0").first.wait_for()
    assert page.get_by_role("button", name="Submit", exact=True).is_disabled()
    field.fill("0.003")
    field.blur()
    page.get_by_text("parameters").wait_for()
    page.get_by_role("button", name="Submit", exact=True).click()
    page.get_by_role("heading", name="from the form").wait_for()
    job = server.admin.get("/v1/jobs").json()["data"][0]
    config = server.job(job["id"])["config"]
    assert (config["lr"], config["adam_beta2"]) == (0.003, 0.99)


def test_a_job_asks_for_workers_by_the_form(server: OrreryServer, open_page: OpenPage) -> None:
    page = open_page(server)
    page.get_by_role("link", name="Submit", exact=True).click()
    page.get_by_label("Name", exact=True).fill("for leiden")
    page.get_by_label("Only on a GPU").fill("0.5")
    page.get_by_label("Only on workers with these labels").fill("site=leiden\nnet=fast")
    page.get_by_role("button", name="Submit", exact=True).click()
    page.get_by_role("heading", name="for leiden").wait_for()
    page.get_by_text("a GPU of 537 MB or more, site=leiden, net=fast").wait_for()
    (job,) = server.admin.get("/v1/jobs").json()["data"]
    assert server.job(job["id"])["requires"] == {
        "gpus": 1,
        "gpu_memory": 2**29,
        "labels": {"site": "leiden", "net": "fast"},
    }
    page.get_by_role("link", name="duplicate and change").click()
    page.get_by_role("heading", name="Change and submit again").wait_for()
    assert page.get_by_label("Only on a GPU").input_value() == "0.5"


def test_a_job_is_duplicated_and_changed(server: OrreryServer, open_page: OpenPage) -> None:
    old = train(server, "first", [0.5], config={"lr": 0.02})
    page = open_page(server)
    page.goto(f"/#/job/{old['id']}")
    page.get_by_role("link", name="duplicate and change").click()
    page.get_by_role("heading", name="Change and submit again").wait_for()
    assert page.locator("#field-lr").input_value() == "0.02"
    page.get_by_role("button", name="Submit", exact=True).click()
    page.get_by_role("heading", name="first", exact=True).wait_for()
    assert len(server.admin.get("/v1/jobs").json()["data"]) == 2


def test_two_runs_are_compared(server: OrreryServer, open_page: OpenPage) -> None:
    one = train(server, "slow", [0.1, 0.2], config={"lr": 0.001, "seed": 1})
    two = train(server, "quick", [0.5, 0.9], config={"lr": 0.01, "seed": 2})
    page = open_page(server)
    page.get_by_label("choose slow").check()
    page.get_by_label("choose quick").check()
    page.get_by_role("link", name="compare", exact=True).click()
    page.get_by_role("heading", name="What differs").wait_for()
    page.get_by_role("rowheader", name="lr", exact=True).wait_for()
    assert page.get_by_role("rowheader", name="epochs").count() == 0  # does not differ
    page.get_by_label("all fields").check()
    page.get_by_role("rowheader", name="epochs").wait_for()
    page.get_by_label("Group by").select_option("lr")
    page.get_by_text("lr = 0.01 (1)").first.wait_for()
    assert one["id"] in page.url
    assert two["id"] in page.url


@pytest.mark.slow
def test_a_token_is_made_and_revoked_while_its_page_is_open(
    server: OrreryServer, open_page: OpenPage
) -> None:
    admin = open_page(server)
    admin.on("dialog", lambda dialog: dialog.accept())
    admin.get_by_role("link", name="Admin").click()
    admin.get_by_label("Name").fill("guest")
    admin.get_by_role("button", name="Make a token").click()
    secret = admin.locator(".note code").inner_text()
    guest = open_page(server, role=None)
    guest.goto(f"/#token={secret}")
    guest.get_by_text("guest (user)").wait_for()
    admin.get_by_role("button", name="revoke guest").click()
    guest.get_by_text("its token revoked").wait_for()


@pytest.mark.slow
def test_the_api_page_tries_requests(server: OrreryServer, open_page: OpenPage) -> None:
    server.submit(name="found by the page")
    page = open_page(server)
    page.goto("/docs")
    page.get_by_label("Find").fill("/v1/jobs")
    page.get_by_text("GET /v1/jobs", exact=True).click()
    page.get_by_role("button", name="Send").click()
    page.get_by_text("200 OK").wait_for()
    page.get_by_text("found by the page").wait_for()


def test_only_what_is_shown_is_acted_on(server: OrreryServer, open_page: OpenPage) -> None:
    for name in ("kept", "other"):
        server.submit(name=name)
    page = open_page(server)
    page.get_by_label("choose all").check()
    page.get_by_text("2 chosen").wait_for()
    page.get_by_label("Name", exact=True).fill("other")
    page.get_by_label("Name", exact=True).press("Enter")
    page.get_by_role("link", name="kept").wait_for(state="detached")
    assert page.get_by_text("chosen", exact=False).count() == 0


def test_a_wrong_query_is_told_above_what_was_there(
    server: OrreryServer, open_page: OpenPage
) -> None:
    server.submit(name="there")
    page = open_page(server)
    page.get_by_role("link", name="there").wait_for()
    page.goto("/#/jobs?sort=nonsense")
    page.get_by_role("alert").wait_for()
    order = page.locator("main h1, main [role=alert], main table").evaluate_all(
        "all => all.map(each => each.tagName)"
    )
    assert order == ["H1", "DIV", "TABLE"]


def test_what_cannot_be_done_to_some_is_told_by_name(
    server: OrreryServer, open_page: OpenPage
) -> None:
    train(server, "finished", [0.5])
    server.submit(name="waiting")
    page = open_page(server)
    page.get_by_label("choose all").check()
    page.get_by_role("button", name="pause", exact=True).click()
    page.get_by_text("pause: 1 done, 1 not").wait_for()
    page.get_by_text("finished: Job").wait_for()


def test_labels_survive_a_duplicate(server: OrreryServer, open_page: OpenPage) -> None:
    labels = {"note": "a, b=c", "empty": ""}
    old = train(server, "labelled", [0.5], metadata=labels)
    page = open_page(server)
    page.goto(f"/#/submit?from={old['id']}")
    page.get_by_role("button", name="Submit", exact=True).click()
    page.get_by_role("heading", name="labelled", exact=True).wait_for()
    newest = server.admin.get("/v1/jobs").json()["data"][0]
    assert newest["id"] != old["id"]
    assert newest["metadata"] == labels


def test_a_stepper_is_evaluated_by_its_form(server: OrreryServer, open_page: OpenPage) -> None:
    old = train(server, "trained", [0.95])
    page = open_page(server)
    page.goto(f"/#/job/{old['id']}")
    page.get_by_role("link", name="evaluate").click()
    page.get_by_text("parameters", exact=True).wait_for()
    page.get_by_label("Name", exact=True).fill("beside criteria")
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("heading", name="beside criteria").wait_for()
    page.get_by_role("link", name=f"epoch 0 of {old['id']}").wait_for()
    newest = server.admin.get("/v1/jobs").json()["data"][0]
    assert newest["kind"] == "evaluate"
    assert page.get_by_role("link", name="duplicate and change").count() == 0


def test_a_comparison_outlives_a_run(server: OrreryServer, open_page: OpenPage) -> None:
    one = train(server, "left", [0.5, 0.6])
    gone = one["id"][:-1] + ("0" if one["id"][-1] != "0" else "1")
    page = open_page(server)
    page.goto(f"/#/compare?id={one['id']}&id={gone}")
    page.get_by_text("1 of these jobs are not there").wait_for()
    page.get_by_role("cell", name="0.6").first.wait_for()


def test_an_address_of_no_page_says_so(server: OrreryServer, open_page: OpenPage) -> None:
    page = open_page(server)
    for address in ("/#/nowhere", "/#/%E0%A4%A"):
        page.goto(address)
        page.get_by_role("heading", name="Nothing here").wait_for()


def test_how_one_looks_at_a_figure_is_in_the_address(
    server: OrreryServer, open_page: OpenPage
) -> None:
    job = train(server, "seen", [0.5 + 0.001 * n for n in range(50)])
    page = open_page(server)
    page.goto(f"/#/job/{job['id']}")
    chart = page.locator("figure.chart").first
    chart.get_by_label("log").check()
    chart.get_by_label("mean of").select_option("5")
    page.get_by_text("50 epochs").first.wait_for()
    plot = chart.locator(".u-over")
    box = box_of(plot)
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 50, steps=5)
    page.mouse.up()
    page.get_by_text("all epochs").wait_for()
    page.reload()
    page.get_by_text("all epochs").wait_for()
    assert chart.get_by_label("log").is_checked()
    assert chart.get_by_label("mean of").input_value() == "5"
    page.get_by_text("all epochs").click()
    page.get_by_text("50 epochs").first.wait_for()


def test_a_viewers_link_shows_what_one_sees_and_changes_nothing(
    server: OrreryServer, open_page: OpenPage
) -> None:
    job = train(server, "shared", [0.5, 0.6])
    address = f"/#/job/{job['id']}?log=part2%2Fefficiency"
    page = open_page(server)
    page.goto(address)
    page.get_by_role("heading", name="shared").wait_for()
    page.get_by_role("button", name="Share").click()
    shared = page.get_by_label("viewer's link").input_value()
    other = open_page(server, role=None)
    other.goto(shared)
    other.get_by_role("heading", name="shared").wait_for()
    assert other.url.endswith(address)
    assert other.locator("figure.chart").first.get_by_label("log").is_checked()
    assert other.get_by_role("button", name="delete").count() == 0
    assert other.get_by_role("button", name="Share").count() == 0
    page.goto("/#/jobs")
    page.goto(shared)  # who is signed in already stays who they are
    page.get_by_role("button", name="delete").wait_for()
    page.goto("/#/admin")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="revoke viewer's link").click()
    other.get_by_label("Token").wait_for()


def test_a_token_in_the_address_signs_in_as_another(
    server: OrreryServer, open_page: OpenPage
) -> None:
    page = open_page(server, role="viewer")
    page.goto("about:blank")
    page.goto(f"/#token={server.admin_token}")
    page.get_by_role("link", name="Admin").wait_for()


def test_a_log_axis_says_what_has_no_place_on_it(server: OrreryServer, open_page: OpenPage) -> None:
    job = train(server, "zeros", [0.5, 0.0, 0.25, 0.0])
    page = open_page(server)
    page.goto(f"/#/job/{job['id']}?log=part2%2Fefficiency")
    page.get_by_text("2 values that are zero or negative have no place").wait_for()


def test_the_raw_curve_stays_behind_the_smoothed_one(
    server: OrreryServer, open_page: OpenPage
) -> None:
    job = train(server, "rough", [0.5 + 0.4 * (n % 2) for n in range(30)])
    page = open_page(server)
    page.goto(f"/#/job/{job['id']}?mean=5")
    wait_until_drawn(page)
    with page.expect_download() as download:
        page.locator("figure.chart").first.get_by_role("button", name="SVG").click()
    figure = download.value.path().read_text()
    assert figure.count("<polyline") == 2
    assert "part2/efficiency (raw)" in figure


def test_of_many_epochs_the_peaks_are_kept_and_the_page_says_how_many(
    server: OrreryServer, open_page: OpenPage
) -> None:
    values = [0.5] * 3000
    values[1234] = 0.99
    job, assignment = server.start(name="long", config={"epochs": 3000})
    for first in range(0, 3000, 1000):
        epochs = [
            epoch_metrics(n, **{"part2/efficiency": values[n]}) for n in range(first, first + 1000)
        ]
        server.report(assignment["lease_id"], first_epoch=0, epochs=epochs)
    page = open_page(server)
    page.goto(f"/#/job/{job['id']}")
    chart = page.locator("figure.chart").first
    page.get_by_text("of 3000 epochs: the least and the largest of each stretch").first.wait_for()
    with page.expect_download() as download:
        chart.get_by_role("button", name="CSV").click()
    rows = list(csv.reader(io.StringIO(download.value.path().read_text())))[1:]
    assert len(rows) < 3000
    assert ["1234", "0.99"] in rows
    page.goto(f"/#/job/{job['id']}?epochs=1200-1299")
    page.get_by_text("100 epochs").first.wait_for()


def test_seeds_are_a_band_around_their_mean(server: OrreryServer, open_page: OpenPage) -> None:
    groups = {0.1: ([0.4, 0.6], [0.6, 0.8]), 0.2: ([0.1, 0.2], [0.1, 0.2])}
    runs = [
        train(server, f"{lr} {n}", values, config={"lr": lr, "seed": n})["id"]
        for lr, curves in groups.items()
        for n, values in enumerate(curves)
    ]
    page = open_page(server)
    page.goto("/#/compare?by=lr&" + "&".join(f"id={run}" for run in runs))
    wait_until_drawn(page)
    with page.expect_download() as download:
        page.locator("figure.chart").get_by_role("button", name="CSV").click()
    rows = list(csv.reader(io.StringIO(download.value.path().read_text())))
    assert rows[0] == ["epoch", "lr = 0.1 (2)", "lr = 0.2 (2)"]
    assert [float(value) for value in rows[1]] == pytest.approx([0, 0.5, 0.1])
    with page.expect_download() as download:
        page.locator("figure.chart").get_by_role("button", name="SVG").click()
    assert download.value.path().read_text().count("<polyline") == 6  # mean, + s, − s of each


def box_of(plot: Any) -> dict[str, float]:
    """Where a plot is on its page, once it stays: it is drawn anew as the page finds its width."""
    boxes: list[dict[str, float] | None] = [None]

    def stays() -> bool:
        boxes.append(plot.bounding_box())
        return boxes[-1] is not None and boxes[-1] == boxes[-2]

    until(stays)
    assert boxes[-1] is not None
    return boxes[-1]


def wait_until_drawn(page: Any) -> None:
    """Return once a page's first chart has its points: its frame is there before."""
    drawn = page.get_by_role("img", name=re.compile("[1-9][0-9]* points"))
    page.locator("figure.chart").first.filter(has=drawn).wait_for()


def strokes(page: Any) -> list[tuple[str, str]]:
    """Colour and dashes of the lines of a page's only chart."""
    wait_until_drawn(page)
    with page.expect_download() as download:
        page.locator("figure.chart").get_by_role("button", name="SVG").click()
    found = re.findall(r"<polyline[^>]*>", download.value.path().read_text())
    return [
        (re.findall(r'stroke="([^"]*)"', line)[0], "".join(re.findall(r'dasharray="(.*?)"', line)))
        for line in found
    ]


def test_lines_are_coloured_and_stroked_by_fields_or_as_one_likes(
    server: OrreryServer, open_page: OpenPage
) -> None:
    settings = [(0.1, 1), (0.1, 2), (0.2, 1), (0.2, 2)]
    runs = [
        train(server, f"run {n}", [0.5, 0.6 + n / 100], config={"lr": lr, "seed": seed})["id"]
        for n, (lr, seed) in enumerate(settings)
    ]
    page = open_page(server)
    page.goto("/#/compare?" + "&".join(f"id={run}" for run in runs))
    page.get_by_role("cell", name="run 3", exact=True).wait_for()
    assert len({colour for colour, _ in strokes(page)}) == 4
    page.get_by_label("Colour by").select_option("lr")
    page.get_by_label("Stroke by").select_option("seed")
    page.get_by_label("Stroke by").evaluate("box => box.blur()")
    (a, solid), (b, dashed), (c, _), (d, _) = looks = strokes(page)
    assert (a, c) == (b, d)
    assert a != c
    assert solid != dashed
    assert [stroke for _, stroke in looks] == [solid, dashed] * 2
    page.get_by_label("colour of run 1").fill("#123456")
    page.reload()
    page.get_by_role("cell", name="run 3", exact=True).wait_for()
    assert [colour for colour, _ in strokes(page)] == [a, "#123456", c, c]


def test_a_line_leads_to_its_job(server: OrreryServer, open_page: OpenPage) -> None:
    runs = [train(server, name, [level] * 3) for name, level in (("low", 0.2), ("high", 0.8))]
    page = open_page(server)
    page.goto("/#/compare?" + "&".join(f"id={run['id']}" for run in runs))
    page.get_by_role("cell", name="high", exact=True).wait_for()
    wait_until_drawn(page)
    box = box_of(page.locator("figure.chart .u-over"))
    page.mouse.move(box["x"] + 5, box["y"] + 0.5 * box["height"])
    place = (box["x"] + 0.5 * box["width"], box["y"] + 0.08 * box["height"])  # 0.8 with its room
    page.mouse.move(*place, steps=4)
    page.mouse.click(*place)
    page.get_by_role("heading", name="high").wait_for()


def test_what_happened_is_on_every_chart_and_on_a_timeline(
    server: OrreryServer, open_page: OpenPage
) -> None:
    job, assignment = server.start(name="eventful", config={"epochs": 6})
    epochs = [epoch_metrics(n) for n in range(3)]
    points = [checkpoint(assignment, 1)]
    lease = assignment["lease_id"]
    server.report(lease, first_epoch=0, epochs=epochs, checkpoints=points)
    server.finish(lease, "failed", "stalled")
    again = server.claim()
    assert again is not None
    server.report(again["lease_id"], first_epoch=2, epochs=[epoch_metrics(n) for n in (2, 3)])
    server.admin.post(f"/v1/jobs/{job['id']}/pause")
    server.finish(again["lease_id"], "stopped", "user")
    page = open_page(server)
    page.goto(f"/#/job/{job['id']}")
    wait_until_drawn(page)
    for chart in page.locator("figure.chart").all():
        with page.expect_download() as download:
            chart.get_by_role("button", name="SVG").click()
        figure = download.value.path().read_text()
        for word in ("stalled", "resumed", "paused"):
            assert f">{word}</text>" in figure
        assert figure.count('stroke-dasharray="4 4"') == 4  # and the checkpoint
    timeline = page.locator(".timeline").inner_text()
    for word in ("submitted", "started", "checkpoint", "stalled", "resumed", "paused"):
        assert word in timeline


def test_a_job_begins_with_a_file_of_ones_own(server: OrreryServer, open_page: OpenPage) -> None:
    page = open_page(server, role="user")
    page.goto("/#/submit")
    page.get_by_label("Begin with").select_option("three_body")  # of random systems, drawn anew
    page.get_by_text("or your own system").click()
    chooser = page.get_by_label("Send a file")
    wrong = {"name": "mine.csv", "mimeType": "text/csv", "buffer": b"1 2 3"}
    chooser.set_input_files(wrong)
    page.get_by_text("the file cannot be used: mine.csv").first.wait_for()
    rows = b"m,x,y,vx,vy\n1,0,0,0,0\n1,1,0,0,1\n"
    chooser.set_input_files(wrong | {"name": "<b>mine</b>.csv", "buffer": rows})
    page.get_by_text("<b>mine</b>.csv: 2 bodies in 2 dimensions").wait_for()
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/#/job/**")
    job = server.job(page.url.rpartition("/")[2])
    assert job["config"]["initial_conditions"] == "file"
    # The next one takes it again.
    page.goto("/#/submit?new=1")
    page.get_by_text("or your own system").click()
    page.get_by_label("or take one that was sent").select_option(label="<b>mine</b>.csv (2 bodies)")
    page.get_by_role("button", name="default of ic_path").wait_for()


def test_a_simulation_is_submitted_by_its_form(server: OrreryServer, open_page: OpenPage) -> None:
    old = train(server, "stepper", [0.95])
    page = open_page(server)
    page.goto(f"/#/job/{old['id']}")
    page.get_by_role("link", name="simulate").click()
    page.get_by_label("Stepper").locator("option:checked", has_text="stepper").wait_for(
        state="attached"
    )
    page.get_by_label("Find a field").fill("Nperiod")
    page.get_by_label("Nperiod", exact=False).first.fill("2")
    page.get_by_label("Name", exact=True).fill("an orbit")
    page.get_by_label("Find a field").fill("initial_conditions")
    page.locator("#field-initial_conditions").select_option('"kepler"')
    page.get_by_text("parameters", exact=True).wait_for()
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("heading", name="an orbit").wait_for()
    newest = server.job(server.admin.get("/v1/jobs").json()["data"][0]["id"])
    assert newest["kind"] == "simulate"
    assert newest["from_checkpoint"] is not None
    assert newest["config"]["initial_conditions"] == "kepler"
    assert newest["config"]["Nperiod"] == 2


def test_notes_are_kept(server: OrreryServer, open_page: OpenPage) -> None:
    job = train(server, "noted", [0.5])
    page = open_page(server)
    page.goto(f"/#/job/{job['id']}")
    page.get_by_text("Notes", exact=True).click()
    page.get_by_label("Notes").fill("width 64 is enough\nsee figure 3")
    page.get_by_role("button", name="keep").click()
    page.get_by_role("button", name="keep").wait_for(state="detached")
    assert server.job(job["id"])["notes"] == "width 64 is enough\nsee figure 3"
    viewer = open_page(server, role="viewer")
    viewer.goto(f"/#/job/{job['id']}")
    viewer.get_by_text("see figure 3").wait_for()
    assert viewer.locator("textarea").count() == 0


def test_a_sweep_is_started_by_its_form(server: OrreryServer, open_page: OpenPage) -> None:
    page = open_page(server)
    page.goto("/#/sweeps")
    page.get_by_text("New sweep").first.click()
    page.get_by_role("textbox", name="Name").fill("widths")
    page.get_by_label("What its trials share").select_option("kepler_demo")
    page.get_by_label("Epochs of each").fill("3")
    page.get_by_label("Trials", exact=True).fill("2")
    page.get_by_label("Search a field").select_option("lr")
    page.get_by_role("button", name="Start the sweep").click()
    page.get_by_text("lr: give numbers to search between").wait_for()
    page.get_by_label("from of lr").fill("1e-4")
    page.get_by_label("to of lr").fill("1e-2")
    page.get_by_label("by its logarithm").check()
    page.get_by_label("Search a field").select_option("hidden_dims")
    page.get_by_label("one of of hidden_dims").fill("[32, 32], [64, 64]")
    page.get_by_label("Search a field").select_option("activation")
    page.get_by_label("one of of activation").fill("tanh, silu")
    page.get_by_role("button", name="Start the sweep").click()
    page.get_by_role("heading", name="widths").wait_for()
    sweep = server.admin.get("/v1/sweeps").json()["data"][0]
    request = server.admin.get(f"/v1/sweeps/{sweep['id']}").json()["request"]
    assert request["space"]["hidden_dims"]["values"] == [[32, 32], [64, 64]]
    assert request["space"]["activation"]["values"] == ["tanh", "silu"]
    assert request["space"]["lr"]["low"] == 1e-4
    assert request["space"]["lr"]["log"] is True
    assert request["config"]["epochs"] == 3
    assert request["n_trials"] == 2

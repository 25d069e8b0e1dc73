"""What holds on every page: open to everybody, no script of a stranger, no other site."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.web.routes.dashboard import FOLDER
from tests.server.conftest import OrreryServer
from tests.server.dashboard.test_tour import train
from tests.server.science import a_scored_training, a_simulation

axe = pytest.importorskip("axe_playwright_python.sync_playwright")

OpenPage = Callable[..., Any]
AXE_OPTIONS = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
LARGEST = 200_000  # bytes of all that a page loads, as they are
PAGES = [
    "jobs",
    "submit",
    "compare",
    "science",
    "sweeps",
    "queue",
    "workers",
    "admin",
    "api",
    "nothing",
]
SCRIPTS = [
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    '"><svg/onload=window.hit=1>',
    "javascript:window.hit=1",
    "{{constructor.constructor('window.hit=1')()}}",
    "${window.hit=1}",
    "'-(window.hit=1)-'",
    "</title><script>window.hit=1</script>",
]
# What a reader cannot see whole and that is in no box that scrolls, once nothing moves.
CUT_OFF = """
async () => {
  const hides = (e) => /auto|scroll|hidden/.test(getComputedStyle(e).overflowX);
  const scrolls = (e) => e && (hides(e) || scrolls(e.parentElement));
  const isCut = (each) => {
    const box = each.getBoundingClientRect();
    const isOut = box.width > 1 && box.right > innerWidth + 1;
    return isOut && !scrolls(each.parentElement.closest("main *"));
  };
  let cut = [];
  for (let frame = 0, whole = 0; frame < 300 && whole < 20; frame += 1) {
    await new Promise(requestAnimationFrame);
    cut = [...document.querySelectorAll("main *")].filter(isCut);
    whole = cut.length ? 0 : whole + 1;
  }
  return cut.map((each) => each.outerHTML.slice(0, 120));
}
"""
SWEEP = {
    "config": {"epochs": 1},
    "space": {"lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}},
    "n_trials": 2,
}


def every_page(server: OrreryServer) -> list[str]:
    job = train(server, "whole", [0.5, 0.75], metadata={"paper": "draft"})
    other = train(server, "other", [0.5, 0.25], config={"lr": 0.5})
    server.submit(name="stuck", config={"device": "cuda"})
    sweep = server.admin.post("/v1/sweeps", json=SWEEP).json()
    both = f"compare?id={job['id']}&id={other['id']}"
    return [*PAGES, f"job/{job['id']}", both, "jobs?group=status", f"sweeps/{sweep['id']}"]


def visit(page: Any, address: str) -> None:
    page.goto(f"/#/{address}")
    page.locator("main h1").first.wait_for()
    page.locator(".loading").first.wait_for(state="detached")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_violates_wcag_at_levels_a_and_aa(
    server: OrreryServer, open_page: OpenPage, scheme: str
) -> None:
    found: list[str] = []
    addresses = every_page(server)
    page = open_page(server, color_scheme=scheme)
    for address in addresses:
        visit(page, address)
        for violation in axe.Axe().run(page, options=AXE_OPTIONS).response["violations"]:
            nodes = [node["html"][:120] for node in violation["nodes"][:3]]
            found.append(f"{address}: {violation['id']}: {nodes}")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Token").wait_for()
    at_login = axe.Axe().run(page, options=AXE_OPTIONS).response["violations"]
    found += [f"login: {violation['id']}" for violation in at_login]
    assert not found


@pytest.mark.slow
def test_nothing_is_cut_off_on_a_phone(server: OrreryServer, open_page: OpenPage) -> None:
    long = "a_name_without_a_space_" * 8
    rows = b"m,x,y,vx,vy\n1,0,0,0,0\n1,1,0,0,1\n"
    sent = server.admin.post(
        "/v1/files",
        params={"name": f"{long[:90]}.csv"},
        content=rows,
        headers={"Content-Type": "application/octet-stream"},
    )
    own_system = {"initial_conditions": "file", "ic_path": sent.json()["path"]}
    job = train(server, long, [0.5], metadata={"paper": long}, config=own_system)
    server.admin.patch(f"/v1/jobs/{job['id']}", json={"notes": long})
    of_job = [f"{page}{job['id']}" for page in ("job/", "compare?id=", "submit?from=")]
    addresses = [*every_page(server), *of_job]
    server.submit(name=long, config={"device": "cuda"})
    server.admin.post("/v1/sweeps", json={**SWEEP, "name": long})
    page = open_page(server, viewport={"width": 390, "height": 844})
    for address in addresses:
        visit(page, address)
        page.locator("details").evaluate_all("all => all.forEach((each) => { each.open = true })")
        assert page.evaluate(CUT_OFF) == [], address


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_what_users_write_is_never_run(
    server: OrreryServer, open_page: OpenPage, script: str
) -> None:
    job = train(server, script, [0.5], metadata={"note": script}, config={"extra": {"x": script}})
    server.admin.patch(f"/v1/jobs/{job['id']}", json={"notes": script})
    a_scored_training(server, script)
    a_simulation(server, script, forces=10, error=1e-5)
    server.submit(name=script, metadata={"note": script})
    server.admin.post("/v1/sweeps", json={**SWEEP, "name": script})
    server.admin.post("/v1/tokens", json={"name": script, "role": "viewer"})
    page = open_page(server)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    compared = f"compare?id={job['id']}"
    own = f"job/{job['id']}"
    for address in ("jobs?columns=metadata/note", own, compared, "science", "queue", "admin"):
        visit(page, address)
        assert page.evaluate("window.hit") is None, address
    assert script in page.locator("main").inner_text()


def test_the_policy_has_no_exception(server: OrreryServer) -> None:
    answer = server.http(None).get("/")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "*" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "<script>" not in answer.text
    assert "style=" not in answer.text


def needed_by(module: str) -> set[str]:
    """The modules that one imports, and those that these import."""
    found = {module}
    for name in re.findall(
        r'^(?:import|export) .*?from "(.*?)";', (FOLDER / module).read_text(), re.M
    ):
        path = ((FOLDER / module).parent / name).resolve().relative_to(FOLDER).as_posix()
        if path not in found:
            found |= needed_by(path)
    return found


def test_every_page_is_small_and_asks_for_nothing_else(server: OrreryServer) -> None:
    client = server.http(None)

    def loaded(path: str) -> int:
        answer = client.get("/" if path == "index.html" else f"/dashboard/{path}")
        assert answer.status_code == 200, path
        return len(answer.content)

    main = (FOLDER / "main.js").read_text()
    later = re.findall(r'import\("\./(.*?)"\)', main)
    assert len(later) >= 9
    shell = {"index.html", "style.css", "icon.svg", "vendor/uplot.css", "vendor/uplot.js"}
    first = shell | needed_by("main.js")
    for page in later:
        assert sum(map(loaded, first | needed_by(page))) <= LARGEST, page
    known = first.union(*map(needed_by, later))
    files = {path for path in FOLDER.rglob("*") if path.suffix in {".js", ".css", ".svg", ".html"}}
    assert known == {path.relative_to(FOLDER).as_posix() for path in files}
    for path in files:
        outside = re.findall(r"https?://[^\s\"'`]+", path.read_text())
        own = "vendor" not in path.parts
        assert not own or not [url for url in outside if "www.w3.org" not in url], path


def test_the_page_names_its_first_modules_so_that_none_waits_for_another() -> None:
    index = (FOLDER / "index.html").read_text()
    named = re.findall(r'modulepreload" href="dashboard/([^"]+)"', index)
    assert set(named) == needed_by("main.js") - {"main.js"}
    assert len(named) == len(set(named))


def test_a_page_that_is_known_is_not_sent_again(server: OrreryServer) -> None:
    client = server.http(None)
    first = client.get("/dashboard/main.js")
    again = client.get("/dashboard/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    "path",
    ["../settings.py", "%2e%2e/settings.py", "..%2fsettings.py", "nothing.js", "vendor", ""],
)
def test_no_other_file_is_served(server: OrreryServer, path: str) -> None:
    answer = httpx.get(f"{server.url}/dashboard/{path}")
    assert answer.status_code in {401, 404, 405}
    assert "ServerSettings" not in answer.text


@pytest.mark.slow
def test_the_pages_are_used_by_keyboard(server: OrreryServer, open_page: OpenPage) -> None:
    server.submit(name="by keys")
    page = open_page(server)
    page.get_by_role("link", name="by keys").wait_for()
    page.reload()
    page.get_by_role("link", name="by keys").wait_for()
    reached: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "[document.activeElement.innerText || document.activeElement.ariaLabel || '',"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.append(focused[0].strip())
        assert focused[1] != "none" or page.evaluate("document.activeElement === document.body")
        if reached[-1] == "by keys":
            break
    assert reached[0] == "To the content"
    assert {"Submit", "Sign out", "name", "by keys"} <= set(reached)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="by keys").wait_for()


@pytest.mark.slow
def test_a_page_says_that_it_is_stale_and_goes_on(tmp_path: Path, open_page: OpenPage) -> None:
    with OrreryServer(tmp_path) as server:
        server.submit(name="before")
        page = open_page(server)
        page.get_by_role("link", name="before").wait_for()
        page.get_by_text("live", exact=True).wait_for()
        port = server.port
    page.get_by_text("stale since").wait_for()
    page.get_by_role("link", name="before").wait_for()  # what was there stays
    with OrreryServer(tmp_path, listen_on=port) as server:
        page.get_by_text("live", exact=True).wait_for()
        server.submit(name="after")
        page.get_by_role("link", name="after").wait_for()

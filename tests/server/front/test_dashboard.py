"""The dashboard under a prefix, over TLS: it finds everything from where it is."""

from typing import Any

from tests.server.dashboard.conftest import browser
from tests.server.front.test_nginx import Begin

__all__ = ["browser"]
PATIENCE_MS = 20_000


def test_a_job_is_submitted_and_seen_under_a_prefix(front: Begin, browser: Any) -> None:
    place = front()
    context = browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    missed: list[str] = []
    page.on("response", lambda said: said.status == 404 and missed.append(said.url))
    page.goto(f"{place.url}/#token={place.server.admin_token}")
    page.get_by_role("heading", name="Jobs").wait_for()
    page.get_by_text("live", exact=True).wait_for()
    page.get_by_role("link", name="Submit", exact=True).click()
    page.get_by_label("Name", exact=True).fill("far away")
    page.get_by_text("parameters").wait_for()
    page.get_by_role("button", name="Submit", exact=True).click()
    page.get_by_role("heading", name="far away").wait_for()
    with page.expect_popup() as opened:
        page.get_by_role("link", name="as text").click()
    assert opened.value.url.startswith(f"{place.url}/v1/jobs/job_")
    page.get_by_role("link", name="Jobs", exact=True).click()
    page.get_by_role("link", name="far away").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert "far away" in download.value.path().read_text()
    page.get_by_role("link", name="API").click()
    page.get_by_text("GET /v1/queue", exact=True).wait_for()
    assert not missed
    context.close()

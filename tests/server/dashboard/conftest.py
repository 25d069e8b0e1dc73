"""A real browser before a real server."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.server.conftest import OrreryServer

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PATIENCE_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Closed with its module: its event loop must not be there for others' `asyncio.run`."""
    if BROWSER is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """`open_page(server, role, ...)`: a page of somebody who signed in; it must make no errors."""
    contexts: list[Any] = []
    wrong: list[str] = []

    def open_one(server: OrreryServer, role: str | None = "admin", **options: Any) -> Any:
        context = browser.new_context(base_url=server.url, **options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(f"uncaught: {error}"))
        page.on("console", lambda said: _note(said, wrong))
        page.on("request", lambda sent: _check_address(sent.url, server.url, wrong))
        page.wrong = wrong
        if role is not None:
            secret = server.admin_token if role == "admin" else server.new_token(role)
            page.goto(f"/#token={secret}")
            page.get_by_role("heading", name="Jobs").wait_for()
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not wrong


def _note(said: Any, wrong: list[str]) -> None:
    """What the page itself did wrong; that an answer was 4xx or did not come is no fault of it."""
    if said.type == "error" and "Failed to load resource" not in said.text:
        wrong.append(said.text)


def _check_address(address: str, own: str, wrong: list[str]) -> None:
    if not address.startswith((own, "data:", "blob:")):
        wrong.append(f"asked of elsewhere: {address}")

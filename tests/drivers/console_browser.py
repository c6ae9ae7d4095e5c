"""A real Chromium in front of a console, and every page that the console has, as its routes say."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import axe_playwright_python  # type: ignore[import-untyped]
import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, sync_playwright

from console.pages import ROUTES
from tests.patience import PATIENCE

BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
NEEDS_BROWSER = pytest.mark.skipif(not BROWSER, reason="no Chromium: apt-get install chromium, or CHROMIUM=/path/to/it")

# What is asked for by a page, and is none itself.
PARTS = {"/console/now", "/console/history.json", "/console/lags.json"}
# Each page by its path, with the queries by which it is opened. A test holds this list against the routes.
QUERIES: Mapping[str, tuple[str, ...]] = {
    "/console": ("", "?range=7d"),
    "/console/live": ("", "?userId=user-1&eventType=LOGIN"),
    "/console/find": ("?q=user-1", "", "?q=0-0", "?q=nothing-of-this-name", "?q=r-17&log=1"),
    "/console/activity": ("", "?days=30"),
    "/console/retention": ("",),
    "/console/dead-letters": ("", "?state=all&cause=poison", "?error=nothing-of-this-name"),
    "/console/dead-letters/one": ("{letter}",),
    "/console/dead-letters/predict": ("{prediction}",),
    "/console/dead-letters/done": ("",),
    "/console/rebuilds": ("",),
    "/console/projectors": ("", "?range=6h"),
    "/console/generations/ask": ("?what=start", "?what=stop&partition=5", "?what=drop"),
    "/console/settings": ("",),
    "/console/jobs": ("{job}",),
}
# Those that only a console has where people sign in.
OF_SIGNING_IN = ("/console/sign-in", "/console/sessions")


def routed() -> set[str]:
    """The paths of the console that a browser may go to."""
    return {path for handler in ROUTES if "GET" in handler.http_methods for path in handler.paths}


def addresses(console: str, topic: str, *, queries: int = 1) -> list[str]:
    """An address for every page of a console, by so many of its usual queries; those of errors are pages, too.

    Args:
        console: Its URL.
        topic: Of the events, of whose first record there may be a letter.
        queries: At most, for each page.
    """
    made = {"{letter}": f"?at={topic}/0/0", "{prediction}": "?number=none", "{job}": "?number=none"}
    with httpx.Client(base_url=console, timeout=PATIENCE) as client:
        token = re.search(r'name="token" value="(\w+)"', client.get("/console/dead-letters").text)
        if token:
            asked = client.post("/console/dead-letters/predict", data={"token": token[1], "what": "redrive"})
            made["{prediction}"] = query_of(asked) or made["{prediction}"]
            page = client.get("/console/generations/ask?what=restart&partition=0").text
            fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))
            made["{job}"] = query_of(client.post("/console/generations/do", data=fields)) or made["{job}"]
    return [
        path + (made[query] if query.startswith("{") else query)
        for path, known in QUERIES.items()
        for query in known[:queries]
    ]


def query_of(answer: httpx.Response) -> str:
    return answer.headers.get("location", "").partition("?")[2] and "?" + answer.headers["location"].partition("?")[2]


class Watched:
    """A page of a browser, and all that went wrong in it. `may_fail`: answers of 500 and more are to be expected."""

    def __init__(self, browser: Browser, base: str, *, may_fail: bool = False, **options: Any) -> None:
        self.context = browser.new_context(base_url=base, **options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.problems: list[str] = []
        self.foreign: list[str] = []
        self._base, self._may_fail = base, may_fail
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", self._asked)
        self.page.on("response", self._answered)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.problems.append(message.text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self._base, "data:")):
            self.foreign.append(request.url)

    def _answered(self, response: Response) -> None:
        is_page = response.request.is_navigation_request()
        is_meant = (self._may_fail and response.status == 503) or (is_page and response.status == 404)
        if response.status >= 400 and not is_meant:
            self.problems.append(f"{response.status} {response.url}")

    def open(self, path: str) -> Page:
        self.page.goto(path if path.startswith("/console") else f"/console{path}")
        return self.page

    def assert_well(self) -> None:
        assert (self.problems, self.foreign) == ([], []), f"{self.problems} {self.foreign}"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Playwright's event loop runs in this thread during the body, so whoever starts another does so before."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        try:
            yield found
        finally:
            found.close()


def axe_source() -> str:
    return Path(str(axe_playwright_python.__file__)).with_name("axe.min.js").read_text()


def serious(page: Page, axe: str) -> list[Any]:
    """What whoever cannot see, or not well, would miss."""
    page.evaluate(axe)
    report = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [each for each in report["violations"] if each["impact"] in ("serious", "critical")]

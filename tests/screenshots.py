"""Makes the pictures of the console in README and docs: a day of traffic, then a browser. `make screenshots`."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import uvloop
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.progress import Progress

from footfall.local.demo.account import DemoOptions
from footfall.local.demo.run import run_demo
from footfall.local.running import RunOptions, running_footfall

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
SETTLED = 25_000  # milliseconds: some points of history are there
PICTURES = (  # name, page, width, height, dark
    ("console-overview", "/console", 1280, 860, False),
    ("console-dead-letters", "/console/dead-letters", 1280, 760, True),
    ("console-projectors", "/console/projectors", 1280, 560, False),
)


def main() -> int:
    """Makes them; returns 1 where there is no browser."""
    if not BROWSER:
        return 1
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="footfall-pictures-") as directory,
        running_footfall(RunOptions(Path(directory) / "state"), console) as running,
    ):
        with Progress(console=console) as progress:
            uvloop.run(run_demo(running, DemoOptions(events=8_000), progress))
        take(running.console, BROWSER)
    return 0


def take(base: str, browser: str) -> None:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for number, (name, path, width, height, dark) in enumerate(PICTURES):
            scheme = "dark" if dark else "light"
            context = started.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(f"{base}{path}")
            page.wait_for_timeout(SETTLED if number == 0 else 3_000)
            page.screenshot(path=IMAGES / f"{name}.png")
            context.close()
        started.close()


if __name__ == "__main__":
    sys.exit(main())

"""Measures what one operator waits for: a page of 10,000 dead letters, the first paint, a process that was killed."""

import asyncio
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import asyncpg
import httpx
import psutil

from bench.commands.post import command_side_process
from bench.result import Result, absolute, compared
from bench.stage import Stage, StageError, free_port

FEW, MANY = 50, 10_000  # letters
PAINTS = 5
ASKED = 30  # times for each figure of a run
LONGEST = 10  # times the page of a few letters; a walk over all takes longer
GIVE_UP = 60.0  # seconds
TOPIC = "bench-letters"
LETTERS = """
INSERT INTO read_g1.dead_letters (kafka_topic, kafka_partition, kafka_offset, recorded_at, cause, error_class,
    error_message, user_id, record_key, record_value, header_names, header_values)
SELECT $1, n % 6, n, now(), 'poison', 'InvalidEvent', 'planted ' || n, 'user-' || n,
    convert_to('user-' || n, 'UTF8'), '\\x00', '{}', '{}' FROM generate_series($2::int, $3::int) AS n
"""
FORGET = "DELETE FROM read_g1.dead_letters WHERE kafka_topic = $1"
PAINTED = """
new Promise((done) => new PerformanceObserver((seen) => done(seen.getEntries()[0].startTime))
  .observe({ type: 'paint', buffered: true }))
"""
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def console_pages(stage: Stage) -> list[Result]:
    """The page of dead letters out of 10,000 and of 50, the first paint in Chromium, and a killed process."""
    few: list[float] = []
    many: list[float] = []
    painted: list[float] = []
    noticed: list[float] = []
    for run in range(stage.runs):
        with console_and_side(stage) as (url, side_url, side), letters(stage, 0, FEW - 1):
            few.append(least_wait(f"{url}/console/dead-letters"))
            with letters(stage, FEW, MANY - 1):
                many.append(least_wait(f"{url}/console/dead-letters"))
            painted += first_paint(f"{url}/console")
            side.kill()
            noticed.append(seconds_until(f"{url}/console", f"The process at {side_url} is not there"))
        seen = f", first paint {painted[-1]:.0f} ms" if painted else ""
        stage.say(
            f"console, run {run + 1}/{stage.runs}: a page of {MANY:,} letters {many[-1]:.1f} ms, of {FEW} "
            f"{few[-1]:.1f} ms{seen}; a killed process is named after {noticed[-1]:.1f} s"
        )
    rows = [compared("console_letters_page", "ms", many, f"the same page of {FEW} letters", few, ("<=", LONGEST))]
    rows += [absolute("console_first_paint", "ms", painted)] if painted else []
    return [*rows, absolute("console_killed_process_named", "s", noticed)]


@contextmanager
def console_and_side(stage: Stage) -> Iterator[tuple[str, str, psutil.Process]]:
    """Runs a console and the command side that it watches; yields their URLs and the latter's process."""
    topic, port = stage.topic("bench-console-pages"), free_port()
    stage.migrated(stage.stack.admin_url)
    with ExitStack() as running:
        process, side = running.enter_context(command_side_process(stage, topic, {}))
        environment = {
            "DATABASE_URL": stage.stack.query_url,
            "OPERATOR_DATABASE_URL": stage.stack.admin_url,
            "CONSOLE_WATCH_URLS": f"http://127.0.0.1:{side}",
            "KAFKA_TOPIC": topic,
            "KAFKA_DLQ_TOPIC": f"{topic}-dlq",
        }
        arguments = ("console", "--port", str(port))
        running.enter_context(stage.process("console", "footfall", *arguments, port=port, environment=environment))
        url = f"http://127.0.0.1:{port}"
        seconds_until(f"{url}/console", "Looked ")
        seconds_until(f"{url}/console/dead-letters", "<h1>Dead letters</h1>")
        yield url, f"http://127.0.0.1:{side}", psutil.Process(process.pid)


@contextmanager
def letters(stage: Stage, first: int, last: int) -> Iterator[None]:
    """So many dead letters during the body."""
    asyncio.run(run_sql(stage.stack.admin_url, LETTERS, TOPIC, first, last))
    try:
        yield
    finally:
        asyncio.run(run_sql(stage.stack.admin_url, f"{FORGET} AND kafka_offset >= $2", TOPIC, first))


async def run_sql(url: str, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


def least_wait(url: str) -> float:
    """Milliseconds that the quickest of several answers takes: other work on the machine can only add to it."""
    took = []
    with httpx.Client(timeout=GIVE_UP) as client:
        for _ in range(ASKED):
            began = time.perf_counter()
            client.get(url).raise_for_status()
            took.append(time.perf_counter() - began)
    return min(took) * 1000


def seconds_until(url: str, text: str) -> float:
    """Seconds until the page has this text. Raises StageError if it never has."""
    began = time.monotonic()
    with httpx.Client(timeout=GIVE_UP) as client:
        while text not in client.get(url).text:
            if time.monotonic() - began > GIVE_UP:
                raise StageError(f"{url} never said {text!r}")
            time.sleep(0.1)
    return time.monotonic() - began


def first_paint(url: str) -> list[float]:
    """Milliseconds until the first paint, the least of some, each without a cache; empty: there is no Chromium."""
    if not BROWSER:
        return []
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only where there is a browser

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        found = []
        for _ in range(PAINTS):
            page = browser.new_context().new_page()
            page.goto(url)
            found.append(float(page.evaluate(PAINTED)))
            page.context.close()
        browser.close()
    return [min(found)]

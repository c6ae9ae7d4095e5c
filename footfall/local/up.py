"""Runs everything until Ctrl-C: the work behind `footfall up`."""

import signal
import time
from types import FrameType

from rich.console import Console

from footfall.cli.called_as import as_called
from footfall.local.running import Running, RunOptions, running_footfall

WATCH = 0.5  # seconds between looks at the processes


def up(options: RunOptions, console: Console) -> int:
    """Runs until SIGINT or SIGTERM and returns 0; returns 1 if one of the processes ends by itself."""
    end_on_signals()
    try:
        with running_footfall(options, console) as running:
            console.print(welcome(running), soft_wrap=True, highlight=False)
            while not (ended := running.ended()):
                time.sleep(WATCH)
            console.print(f"[red]Ended by itself: {', '.join(ended)}; see the logs in {running.log_dir}.")
            return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 0


def end_on_signals() -> None:
    """Makes SIGTERM and SIGINT end this process.

    A shell starts background jobs with SIGINT ignored, and Python keeps it ignored.
    """
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Raises KeyboardInterrupt, so that every `finally` runs, and ignores further signals during the clean-up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def welcome(running: Running) -> str:
    """Returns the greeting: the addresses, and three commands to paste."""
    front = running.front
    return as_called(
        f"\n[bold]Footfall is up at {front}[/bold]   (Ctrl-C stops everything)\n"
        f"Kafka {running.stack.kafka_bootstrap}   logs in {running.log_dir}\n\n"
        f"curl -s {front}/events/generate -H 'Content-Type: application/json' \\\n"
        """  -d '{"userId":"user-1","eventType":"PRODUCT_VIEW","payload":{"productId":"p-42"}}'\n\n"""
        f"curl -s {front}/events/processed\n"
        f"footfall sql --state-dir {running.log_dir.parent}\n"
    )

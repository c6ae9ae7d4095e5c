"""`footfall up`: everything, until Ctrl-C."""

import signal
import time
from types import FrameType

from rich.console import Console

from footfall.cli.called_as import as_called
from footfall.local.running import Running, RunOptions, running_footfall

WATCH = 0.5  # seconds between looks at the processes


def up(options: RunOptions, console: Console) -> int:
    """Runs until SIGINT or SIGTERM and returns 0; returns 1 when one of the processes ends by itself."""
    obey_signals()
    try:
        with running_footfall(options, console) as running:
            console.print(welcome(running), soft_wrap=True, highlight=False)
            while not running.ended():
                time.sleep(WATCH)
            console.print(f"[red]A process ended by itself (pid {running.ended()}); see the logs in {running.log_dir}.")
            return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 0


def obey_signals() -> None:
    """Ends us on SIGTERM and SIGINT; a shell starts background jobs with SIGINT ignored, and Python leaves it so."""
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Makes SIGTERM end us as Ctrl-C does, through every `finally`; further signals wait for the clean end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def welcome(running: Running) -> str:
    """Where everything is, and three commands to paste."""
    front = running.front
    return as_called(
        f"\n[bold]Footfall is up at {front}[/bold]   (Ctrl-C stops everything)\n"
        f"Kafka {running.stack.kafka_bootstrap}   logs in {running.log_dir}\n\n"
        f"curl -s {front}/events/generate -H 'Content-Type: application/json' \\\n"
        """  -d '{"userId":"user-1","eventType":"PRODUCT_VIEW","payload":{"productId":"p-42"}}'\n\n"""
        f"curl -s {front}/events/processed\n"
        f"footfall sql --state-dir {running.log_dir.parent}\n"
    )

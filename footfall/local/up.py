"""Runs everything until Ctrl-C: the work behind `footfall up`."""

import signal
import time
from types import FrameType

from rich.console import Console

from footfall.cli.called_as import as_called
from footfall.local.running import Running, RunOptions, running_footfall
from footfall.local.secured import OPERATOR_FILE

WATCH = 0.5  # seconds between looks at the processes


def up(options: RunOptions, console: Console) -> int:
    """Runs until SIGINT or SIGTERM and returns 0; returns 1 if one of the processes ends by itself."""
    end_on_signals()
    try:
        with running_footfall(options, console) as running:
            console.print(welcome(running), soft_wrap=True, highlight=False)
            run_on(running, console)
            return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 0


def run_on(running: Running, console: Console) -> None:
    """Returns when something has ended by itself, and says what. One of several brokers is started again."""
    while not (ended := running.ended()):
        if len(running.stack.kafka.brokers) > 1:
            for sentence in running.stack.kafka.restart_ended():
                console.print(sentence, style="yellow", markup=False)
        time.sleep(WATCH)
    console.print(f"Ended by itself: {', '.join(ended)}; see the logs in {running.log_dir}.", style="red", markup=False)


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
    """Returns the greeting: the addresses, and three commands to paste, after those that make a key if it takes one."""
    front, key = running.front, "" if running.auth == "open" else ' -H "Authorization: Bearer $KEY"'
    security = running.stack.security
    curl = "curl -s" if security is None else f"curl -s --cacert {security.certificates.authority}"
    return as_called(
        f"\n[bold]Footfall is up at {front}[/bold]   (Ctrl-C stops everything)\n"
        f"{console_line(running)}"
        f"Kafka {running.stack.kafka_bootstrap}   logs in {running.log_dir}\n\n"
        f"{first_key(running)}"
        f"{curl} {front}/events/generate{key} -H 'Content-Type: application/json' \\\n"
        """  -d '{"userId":"user-1","eventType":"PRODUCT_VIEW","payload":{"productId":"p-42"}}'\n\n"""
        f"{curl} {front}/events/processed{key}\n"
        f"footfall sql --state-dir {running.log_dir.parent}\n"
    )


def console_line(running: Running) -> str:
    """Returns the line with the console's address; nothing where none runs."""
    return f"Console {running.console}/console\n" if running.console else ""


def first_key(running: Running) -> str:
    """Returns the lines that set KEY to what opens the front; nothing if everybody gets in."""
    if running.auth == "open":
        return ""
    if running.auth == "tokens":
        return "KEY=...  # an access token of your OpenID provider\n\n"
    state_dir = running.log_dir.parent
    create = "footfall keys create --kind secret --name first"
    if running.stack.security is not None:
        return f"set -a; . {state_dir / OPERATOR_FILE}; set +a\nKEY=$({create})\n\n"
    return f"KEY=$({create} --state-dir {state_dir})\n\n"

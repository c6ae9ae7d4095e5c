"""Prints replayed events, or calls a handler with each: the output of `footfall replay`."""

import asyncio
import contextlib
import importlib
import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
import rich_click as click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from brokers.settings import KafkaSettings
from contracts.event import UserEvent
from contracts.types import read_catalogue
from contracts.versions import encode_event
from footfall.cli.sealed.key_store import operator_keys
from operations.replay import (
    EventHandler,
    HandlerError,
    Malformed,
    OnMalformed,
    Replayed,
    ReplayError,
    ReplayFilter,
    Span,
    Tally,
    replay,
)
from projector.sealed.keys import opening
from read_model.wire_time import WireTime, wire_time
from sealing.errors import KeysError

UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PROGRESS_INTERVAL = 0.2  # seconds
DONE, FAILED, INTERRUPTED = 0, 1, 130  # exit codes

Format = Literal["json", "table"]
_encode = msgspec.json.Encoder().encode


class Line(msgspec.Struct, frozen=True, rename="camel"):
    """One line of NDJSON: an event as the log holds it, and its position."""

    partition: int
    offset: int
    recorded_at: WireTime
    event: msgspec.Raw


def run(
    settings: KafkaSettings, span: Span, matches: ReplayFilter, limit: int | None, form: Format, handler: str | None
) -> int:
    """Prints the matching events, or calls the handler with each, and returns the exit code.

    A reader that closes the pipe, such as `head`, is no failure.
    """
    tally = Tally()
    console = Console(stderr=True)
    shown = console.is_terminal and (handler is not None or not sys.stdout.isatty())
    keys = operator_keys()

    async def replayed(on_malformed: OnMalformed) -> None:
        async with opening(keys, read_catalogue()) as opener:
            await replay(settings, span, matches, handle, on_malformed, limit=limit, tally=tally, opener=opener)

    try:
        handle = calling(load(handler)) if handler is not None else printer(form)
        with _progress(console, tally, shown=shown) as on_malformed:
            asyncio.run(replayed(on_malformed))
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit does not fail, too
    except (ReplayError, HandlerError, KeysError) as error:
        cause = f": {type(error.__cause__).__name__}: {error.__cause__}" if error.__cause__ else ""
        _say(f"{error}{cause}")
        _say(f"{tally.replayed:,} events replayed until then")
        return FAILED
    except KeyboardInterrupt:
        _say(f"interrupted; {tally.replayed:,} events replayed until then")
        return INTERRUPTED
    for partition, offset in tally.truncated.items():
        _say(f"partition {partition} begins at offset {offset:,}; the topic no longer holds earlier records")
    malformed = f", {tally.malformed:,} malformed records skipped" if tally.malformed else ""
    _say(f"{tally.replayed:,} events replayed{malformed}")
    return DONE


def printer(form: Format) -> EventHandler:
    """Returns a handler that writes each event to standard output, as a line of JSON or of a table."""
    if form == "table":
        _print(f"{'part':>4} {'offset':>10}  {'time':<27} {'type':<12} {'user':<24} payload".encode())

    async def write(found: Replayed) -> None:
        _print(_row(found) if form == "table" else _json(found))

    return write


def _print(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")


def _json(found: Replayed) -> bytes:
    at = UNIX_EPOCH + timedelta(milliseconds=found.recorded_at_ms)
    return _encode(Line(found.partition, found.offset, wire_time(at), msgspec.Raw(encode_event(found.event))))


def _row(found: Replayed) -> bytes:
    event = found.event
    time = wire_time(event.timestamp.astimezone(UTC))
    payload = _encode(event.payload).decode()
    where = f"{found.partition:>4} {found.offset:>10}"
    return f"{where}  {time:<27} {event.event_type:<12} {event.user_id:<24} {payload}".encode()


def load(name: str) -> Callable[[UserEvent], Any]:
    """Imports the function that `module:function` names, also from the working directory. Raises ReplayError."""
    module, colon, function = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), function) if colon and module else None
    except (ImportError, AttributeError) as error:
        raise ReplayError(f"there is no handler {name}") from error
    if not callable(found):
        raise ReplayError(f"{name} is not a handler: give module:function")
    handler: Callable[[UserEvent], Any] = found
    return handler


def calling(handler: Callable[[UserEvent], Any]) -> EventHandler:
    """Wraps a function or coroutine function; the wrapper raises HandlerError for whatever it raises."""

    async def handle(found: Replayed) -> None:
        try:
            answer = handler(found.event)
            if inspect.isawaitable(answer):
                await answer
        except Exception as error:
            raise HandlerError(found) from error

    return handle


@contextlib.contextmanager
def _progress(console: Console, tally: Tally, *, shown: bool) -> Iterator[Callable[[Malformed], None]]:
    """Shows a progress bar on standard error; yields a function that reports a malformed record without breaking it."""
    bar = Progress(
        TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, disable=not shown,
    )  # fmt: skip
    task = bar.add_task("replay", total=None)

    def report_malformed(malformed: Malformed) -> None:
        where = f"partition {malformed.partition}, offset {malformed.offset}"
        text = f"footfall: replay: malformed record at {where}: {malformed.reason}"
        if shown:
            console.print(escape(text), soft_wrap=True, highlight=False)
        else:
            click.echo(text, err=True)

    ended = threading.Event()

    def update_bar() -> None:
        while not ended.wait(PROGRESS_INTERVAL):
            bar.update(task, completed=tally.passed, total=tally.total)

    updater = threading.Thread(target=update_bar, daemon=True)
    with bar:
        updater.start()
        try:
            yield report_malformed
        finally:
            ended.set()
            updater.join()
            bar.update(task, completed=tally.passed, total=tally.total)


def _say(text: str) -> None:
    click.echo(f"footfall: replay: {text}", err=True)

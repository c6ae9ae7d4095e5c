"""Logs are lines of JSON that name no person and no secret."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from contracts.event import PERSONAL_FIELDS
from identity.keys.key_text import new_key
from telemetry.logs import configure_logs, get_logger


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Configures logging as a process does, at its parameter's level; calling it gives the lines so far."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in ("", "aiokafka", "uvicorn")}
    configure_logs(getattr(request, "param", "INFO"), PERSONAL_FIELDS)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()


def test_the_personal_fields_are_those_marked_in_the_event() -> None:
    assert {"user_id", "userId", "payload"} <= PERSONAL_FIELDS
    assert not {"event_id", "eventId", "event_type", "timestamp"} & PERSONAL_FIELDS


def test_a_key_is_masked_wherever_it_stands(lines: Any) -> None:
    keys = [new_key(kind) for kind in ("public", "secret", "operator")]
    get_logger("room").info("seen", target=f"/events/generate?key={keys[0]}&a=1", why=f"Bearer {keys[1]}")
    logging.getLogger("uvicorn.error").warning("said %s", keys[2])
    [ours, other] = lines()
    assert (ours["target"], ours["why"], other["event"]) == ("/events/generate?key=***&a=1", "Bearer ***", "said ***")


def test_requests_that_are_no_http_are_one_line_a_second_and_each_traceback_is_one(lines: Any) -> None:
    uvicorn = logging.getLogger("uvicorn.error")
    for _ in range(300):
        uvicorn.warning("Invalid HTTP request received.")
    for _ in range(2):
        uvicorn.error("Exception in ASGI application")
    told = [line["event"] for line in lines()]
    assert told == ["Invalid HTTP request received.", *["Exception in ASGI application"] * 2]


def test_personal_and_secret_fields_are_masked(lines: Any) -> None:
    get_logger("room").info("seen", userId="zoe", user_id="zoe", payload={"ip": "1"}, value=b"{}", password="x", n=1)
    [line] = lines()
    masked = {name: line[name] for name in ("userId", "user_id", "payload", "value", "password")}
    assert set(masked.values()) == {"***"}
    assert "zoe" not in json.dumps(line)
    assert (line["event"], line["n"], line["level"], line["logger"]) == ("seen", 1, "info", "room")
    assert line["timestamp"].endswith("Z")


def test_standard_library_records_have_the_same_form(lines: Any) -> None:
    logging.getLogger("somewhere").warning("said %s", "this")
    [line] = lines()
    assert (line["event"], line["level"], line["logger"]) == ("said this", "warning", "somewhere")


def test_what_is_below_the_level_is_not_logged(lines: Any) -> None:
    get_logger("room").debug("quiet")
    logging.getLogger("aiokafka.conn").warning("connection lost, again")
    assert lines() == []


@pytest.mark.parametrize("lines", ["DEBUG"], indirect=True)
def test_an_exception_is_one_line(lines: Any) -> None:
    try:
        raise ValueError("why")
    except ValueError:
        get_logger("room").exception("failed")
    [line] = lines()
    assert "ValueError: why" in line["exception"]


def test_what_an_exception_says_is_only_told_at_debug_because_it_may_quote_a_person(lines: Any) -> None:
    who = "".join(reversed("eoz"))
    try:
        try:
            raise KeyError(who)
        except KeyError as error:
            raise ExceptionGroup(who, [ValueError(who), OSError(who)]) from error
    except ExceptionGroup:
        get_logger("room").exception("failed")
    logging.getLogger("asyncio").error("Never retrieved\nfuture: <%s>", who, exc_info=KeyError(who))
    first, second = lines()
    assert who not in json.dumps([first, second])
    names = [line for line in first["exception"].splitlines() if not line.startswith(" ")]
    assert names == ["KeyError", "ExceptionGroup", "ValueError", "OSError"]
    assert "test_logs.py" in first["exception"]
    assert (second["event"], second["exception"]) == ("Never retrieved", "KeyError")

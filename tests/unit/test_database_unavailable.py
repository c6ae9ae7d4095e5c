"""What says that the database is away says it to everybody: projector, query side, and whoever waits at a start."""

import asyncio
import logging

import asyncpg
import pytest

from projector.writing.failure import Failure, kind_of
from query_side.api.responses import refusal_for
from read_model.connecting.unavailable import ANOTHER_SCHEMA, DATABASE_UNAVAILABLE
from telemetry.connections import ended_within, once_there
from telemetry.log_throttle import LogThrottle

SERVERS_FAULT = (Failure.TRANSIENT, Failure.SERVER, Failure.TOO_MUCH)
# A sequence that is at its end: no query of ours takes a number.
NEVER_READ = {"2200H"}
DRIVERS = [OSError(), TimeoutError(), asyncio.IncompleteReadError(b"", 1), asyncpg.InterfaceError("x")]


def every_error() -> list[BaseException]:
    found = [kind for kind in vars(asyncpg.exceptions).values() if isinstance(kind, type)]
    stated = [kind for kind in found if issubclass(kind, asyncpg.PostgresError) and getattr(kind, "sqlstate", None)]
    return [*(kind("x") for kind in stated), asyncpg.InternalClientError("x"), *DRIVERS]


def test_what_is_the_servers_fault_when_writing_is_no_500_when_reading() -> None:
    errors = [error for error in every_error() if getattr(error, "sqlstate", "") not in NEVER_READ]
    assert len(errors) > 200
    blamed = [error for error in errors if kind_of(error) in SERVERS_FAULT]
    assert [
        type(error).__name__ for error in blamed if not isinstance(error, (*DATABASE_UNAVAILABLE, *ANOTHER_SCHEMA))
    ] == []


def test_a_query_that_meets_its_bound_of_temporary_files_is_told_to_ask_for_less() -> None:
    answer = refusal_for(asyncpg.ConfigurationLimitExceededError("temp_file_limit (1GB)"), "/events/processed")
    assert (answer.status, answer.headers) == (503, ())
    assert "ask for less" in answer.error
    assert refusal_for(asyncpg.DiskFullError("x"), "/events/processed").headers == ((b"retry-after", b"2"),)


async def test_a_client_that_lets_out_its_own_cancellation_does_not_cancel_us() -> None:
    async def stop() -> None:
        raise asyncio.CancelledError

    async def hang() -> None:
        await asyncio.Event().wait()

    async def well() -> None: ...

    assert not await ended_within(60, stop)
    assert not await ended_within(0.01, hang)
    assert await ended_within(60, well)


async def test_a_server_that_is_away_is_waited_for_as_long_as_asked() -> None:
    tries = 0

    async def connect() -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ConnectionRefusedError("not yet")
        return "there"

    assert await once_there("PostgreSQL", connect, (OSError,), 60) == "there"
    tries = 0
    with pytest.raises(ConnectionRefusedError):
        await once_there("PostgreSQL", connect, (OSError,), 0)
    assert tries == 1


def test_a_log_that_repeats_itself_says_it_once_and_how_often() -> None:
    now = 0.0
    throttle = LogThrottle("aiokafka", seconds=5, clock=lambda: now)

    def said(name: str = "aiokafka.client", text: str = "Unable to connect to %s") -> str | None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, text, ("x",), None)
        return record.getMessage() if throttle.filter(record) else None

    assert said() == "Unable to connect to x"
    assert [said() for _ in range(100)] == [None] * 100
    assert said(text="Another %s") == "Another x"
    assert said(name="projector") == said(name="projector") == "Unable to connect to x"
    now = 6.0
    assert said() == "Unable to connect to x (and 100 times more in the last 6 s)"

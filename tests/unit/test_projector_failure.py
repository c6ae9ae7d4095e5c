"""The kind of a failure decides: try again for ever, try less, look for the record at fault, or stop the partition."""

import asyncio
import inspect
import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from projector.writing.failure import (
    CLASSES,
    CODES,
    DATABASE_ERRORS,
    Failure,
    NotConnectedError,
    describe_error,
    diagnosis,
    kind_of,
    leaves,
)
from tests.architecture.repository import ROOT

# What issue and documentation promise: none of these is ever a record's fault.
NEVER_THE_RECORDS = (
    "08",
    "28",
    "3D",
    "42501",
    "53",
    "54",
    "55",
    "57",
    "58",
    "XX",
    "25006",
    "40",
    "0A",
    "26",
    "3F",
    "F0",
    "HV",
)


class EncodingRefusedError(asyncpg.InterfaceError, ValueError):
    """As the driver's own DataError is, which it does not export."""


def every_postgresql_error() -> Iterator[type[asyncpg.PostgresError]]:
    """All exceptions of the driver that carry a SQLSTATE, which it generates from PostgreSQL's appendix A."""
    for _, found in inspect.getmembers(asyncpg.exceptions, inspect.isclass):
        if issubclass(found, asyncpg.PostgresError) and getattr(found, "sqlstate", None):
            yield found


EVERY_ERROR = sorted(set(every_postgresql_error()), key=lambda found: (found.sqlstate, found.__name__))


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda found: f"{found.sqlstate} {found.__name__}")
def test_every_sqlstate_has_a_kind(error: type[asyncpg.PostgresError]) -> None:
    code = str(error.sqlstate)
    assert code[:2] in CLASSES
    expected = CODES.get(code, CLASSES[code[:2]])
    assert kind_of(error("x")) is expected
    if code.startswith(NEVER_THE_RECORDS):
        assert expected in (Failure.TRANSIENT, Failure.TOO_MUCH, Failure.SERVER)


def test_the_table_names_no_class_or_code_that_does_not_exist() -> None:
    known = {str(error.sqlstate) for error in EVERY_ERROR}
    assert set(CODES) <= known
    assert set(CLASSES) - {code[:2] for code in known} == {"00", "01", "02"}  # success and warnings are no errors


@pytest.mark.parametrize("code", ["ZZ001", "A0000", "", None])
def test_a_code_that_nobody_knows_is_not_the_records_fault(code: str | None) -> None:
    error: Any = asyncpg.UnknownPostgresError("x")
    error.sqlstate = code
    assert kind_of(error) is Failure.SERVER


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (asyncpg.DiskFullError, Failure.TRANSIENT),
        (asyncpg.TooManyConnectionsError, Failure.TRANSIENT),
        (asyncpg.AdminShutdownError, Failure.TRANSIENT),
        (asyncpg.CannotConnectNowError, Failure.TRANSIENT),
        (asyncpg.DeadlockDetectedError, Failure.TRANSIENT),
        (asyncpg.LockNotAvailableError, Failure.TRANSIENT),
        (asyncpg.ReadOnlySQLTransactionError, Failure.TRANSIENT),
        (asyncpg.InterfaceError, Failure.TRANSIENT),
        (asyncpg.InternalClientError, Failure.TRANSIENT),
        (ConnectionResetError, Failure.TRANSIENT),
        (NotConnectedError, Failure.TRANSIENT),
        (asyncpg.QueryCanceledError, Failure.TOO_MUCH),
        (asyncpg.OutOfMemoryError, Failure.TOO_MUCH),
        (asyncpg.ProgramLimitExceededError, Failure.TOO_MUCH),
        (TimeoutError, Failure.TOO_MUCH),
        (asyncio.TimeoutError, Failure.TOO_MUCH),
        (MemoryError, Failure.TOO_MUCH),
        (asyncpg.InsufficientPrivilegeError, Failure.SERVER),
        (asyncpg.UndefinedTableError, Failure.SERVER),
        (asyncpg.InvalidPasswordError, Failure.SERVER),
        (asyncpg.DataCorruptedError, Failure.SERVER),
        (asyncpg.InternalServerError, Failure.SERVER),
        (asyncpg.InvalidCachedStatementError, Failure.SERVER),
        (asyncpg.InvalidSQLStatementNameError, Failure.SERVER),
        (asyncpg.OutdatedSchemaCacheError, Failure.SERVER),
        (asyncpg.PostgresSyntaxError, Failure.DEFECT),
        (asyncpg.DataError, Failure.SUSPECT),
        (EncodingRefusedError, Failure.SUSPECT),
        (asyncpg.UniqueViolationError, Failure.SUSPECT),
        (asyncpg.CheckViolationError, Failure.SUSPECT),
        (asyncpg.RaiseError, Failure.SUSPECT),
        (KeyError, Failure.SUSPECT),
        (RecursionError, Failure.SUSPECT),
    ],
)
def test_the_kind_of_what_is_met_most(error: type[Exception], kind: Failure) -> None:
    assert kind_of(error("x")) is kind


def test_a_failure_to_connect_is_never_the_records_whatever_the_reason() -> None:
    for error in EVERY_ERROR:
        failed = NotConnectedError()
        failed.__cause__ = error("x")
        assert kind_of(failed) is Failure.TRANSIENT
        assert isinstance(failed, DATABASE_ERRORS)


def test_a_group_is_named_by_its_leaves() -> None:
    refused = NotConnectedError()
    refused.__cause__ = asyncpg.InvalidPasswordError("password authentication failed")
    group = BaseExceptionGroup(
        "unhandled errors", [ExceptionGroup("more", [OSError("away"), refused]), OSError("away")]
    )
    assert len([*leaves(group)]) == 3
    assert describe_error(group) == (
        "OSError: away; not connected to PostgreSQL: InvalidPasswordError 28P01: password authentication failed"
    )


def test_what_may_quote_an_event_is_not_repeated() -> None:
    assert describe_error(asyncpg.CheckViolationError("new row violates: (secret)")) == "CheckViolationError 23514"
    assert describe_error(KeyError("secret")) == "KeyError"


def test_a_diagnosis_names_the_failure_and_quotes_no_value() -> None:
    def fails() -> None:
        value = "secret" + "-user"
        raise asyncpg.UniqueViolationError(f"Key (user_id)=({value}) already exists.")

    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        fails()
    found = diagnosis(caught.value)
    assert found["error"] == "UniqueViolationError"
    assert found["sqlstate"] == "23505"
    assert found["kind"] == "suspect"
    assert "fails" in str(found["where"])
    assert "secret-user" not in str(found)


def test_the_decision_record_names_every_kind() -> None:
    record = (ROOT / "docs/decisions/0006-the-kind-of-a-failure-decides.md").read_text()
    assert {kind.value for kind in Failure} <= set(re.findall(r"\*([a-z ]+)\*", record.lower()))

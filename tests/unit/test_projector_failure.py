"""The kind of a failure decides: try again for ever, look for the record at fault, or stop the partition."""

import asyncio

import asyncpg
import pytest

from projector.failure import Failure, diagnosis, kind_of


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.DiskFullError,
        asyncpg.OutOfMemoryError,
        asyncpg.TooManyConnectionsError,
        asyncpg.AdminShutdownError,
        asyncpg.CrashShutdownError,
        asyncpg.CannotConnectNowError,
        asyncpg.QueryCanceledError,
        asyncpg.IdleInTransactionSessionTimeoutError,
        asyncpg.TransactionTimeoutError,
        asyncpg.DeadlockDetectedError,
        asyncpg.SerializationError,
        asyncpg.LockNotAvailableError,
        asyncpg.ConnectionDoesNotExistError,
        asyncpg.ConnectionFailureError,
        asyncpg.InterfaceError,
        asyncpg.PostgresIOError,
        asyncpg.ReadOnlySQLTransactionError,
        ConnectionRefusedError,
        ConnectionResetError,
        TimeoutError,
        asyncio.TimeoutError,
    ],
)
def test_the_worlds_faults_are_transient(error: type[Exception]) -> None:
    assert kind_of(error("x")) is Failure.TRANSIENT


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.DataError,
        asyncpg.NumericValueOutOfRangeError,
        asyncpg.DatetimeFieldOverflowError,
        asyncpg.UntranslatableCharacterError,
        asyncpg.CharacterNotInRepertoireError,
        asyncpg.InvalidTextRepresentationError,
        asyncpg.NotNullViolationError,
        asyncpg.CheckViolationError,
        asyncpg.UniqueViolationError,
        asyncpg.DataCorruptedError,
        asyncpg.InvalidPasswordError,
        KeyError,
        ValueError,
        RecursionError,
        OverflowError,
    ],
)
def test_what_some_record_may_cause_is_suspect(error: type[Exception]) -> None:
    assert kind_of(error("x")) is Failure.SUSPECT


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InsufficientPrivilegeError,
        asyncpg.UndefinedTableError,
        asyncpg.UndefinedColumnError,
        asyncpg.PostgresSyntaxError,
        asyncpg.FeatureNotSupportedError,
        asyncpg.InvalidCatalogNameError,
    ],
)
def test_what_no_record_can_cause_is_a_defect(error: type[Exception]) -> None:
    assert kind_of(error("x")) is Failure.DEFECT


def test_a_diagnosis_names_the_failure_and_quotes_no_value() -> None:
    def fails() -> None:
        value = "secret" + "-user"
        raise asyncpg.UniqueViolationError(f"Key (user_id)=({value}) already exists.")

    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        fails()
    found = diagnosis(caught.value)
    assert found["error"] == "UniqueViolationError"
    assert found["sqlstate"] == "23505"
    assert "fails" in str(found["where"])
    assert "secret-user" not in str(found)

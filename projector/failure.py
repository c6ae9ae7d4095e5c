"""Failures are of a kind, and the kind decides (docs/decisions/0006)."""

import asyncio
import traceback
from enum import Enum
from typing import Literal

import asyncpg
import msgspec

MAX_MESSAGE_LENGTH = 1_000  # characters

Cause = Literal["poison", "newer_version", "behind"]


class Diagnosis(msgspec.Struct, frozen=True):
    """Why a record was parked: words fit for a log, nothing of the value. `behind_offset`: what it waits behind."""

    cause: Cause
    error_class: str
    error_message: str
    behind_offset: int | None = None


class Failure(Enum):
    """What a failed batch calls for."""

    TRANSIENT = "transient"  # the world is at fault: wait, read again, for ever
    DEFECT = "defect"  # the code or the schema is at fault: stop and say so
    SUSPECT = "suspect"  # some record may be at fault: find it, and try it against one that is known to be good


TRANSIENT = (
    OSError,  # connection refused, reset, broken
    TimeoutError,
    asyncio.IncompleteReadError,
    asyncpg.InterfaceError,  # the driver's word for a connection that is gone
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutdown, crash recovery, "cannot connect now", cancelled by an operator
    asyncpg.InsufficientResourcesError,  # disk full, out of memory, too many connections
    asyncpg.TransactionRollbackError,  # deadlock, serialization
    asyncpg.LockNotAvailableError,
    asyncpg.PostgresSystemError,  # I/O errors of the server
    asyncpg.InternalClientError,
    asyncpg.ReadOnlySQLTransactionError,  # a failover made our server a standby
    asyncpg.IdleInTransactionSessionTimeoutError,  # we were frozen in the middle of a transaction
    asyncpg.TransactionTimeoutError,
)


# What no record can cause: SQL that is wrong for this schema, privileges, features.
DEFECT = (asyncpg.SyntaxOrAccessError, asyncpg.FeatureNotSupportedError, asyncpg.InvalidCatalogNameError)


def kind_of(error: BaseException) -> Failure:
    """The kind of a failure to apply a batch."""
    if isinstance(error, TRANSIENT):
        return Failure.TRANSIENT
    return Failure.DEFECT if isinstance(error, DEFECT) else Failure.SUSPECT


def storable_words(text: str) -> str:
    """The text as a text column and a log can hold it: a field's name may be long, and hold NUL or half a character."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()[:MAX_MESSAGE_LENGTH]


def unappliable(error: BaseException) -> Diagnosis:
    """Why a valid event is parked. The error's own text may quote the event, so only its class is kept."""
    return Diagnosis("poison", type(error).__name__, "The event is valid, but could not be applied; others can.")


def diagnosis(error: BaseException) -> dict[str, object]:
    """What a log may say of a failure: no message, for PostgreSQL and its driver quote the values they refuse."""
    return {
        "error": type(error).__name__,
        "sqlstate": getattr(error, "sqlstate", None),
        "table": getattr(error, "table_name", None),
        "constraint": getattr(error, "constraint_name", None),
        "where": traceback.format_tb(error.__traceback__),
    }

"""Failures are of a kind, and the kind decides (docs/decisions/0006)."""

import asyncio
import traceback
from enum import Enum

import asyncpg


class Failure(Enum):
    """What a failed batch calls for."""

    TRANSIENT = "transient"  # the world is at fault: wait, read again, for ever
    DEFECT = "defect"  # the code is at fault: stop and say so


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


def kind_of(error: BaseException) -> Failure:
    """The kind of a failure to commit a batch. What nobody foresaw is a defect: retrying would loop for ever unseen."""
    return Failure.TRANSIENT if isinstance(error, TRANSIENT) else Failure.DEFECT


def diagnosis(error: BaseException) -> dict[str, object]:
    """What a log may say of a failure: no message, for PostgreSQL and its driver quote the values they refuse."""
    return {
        "error": type(error).__name__,
        "sqlstate": getattr(error, "sqlstate", None),
        "table": getattr(error, "table_name", None),
        "constraint": getattr(error, "constraint_name", None),
        "where": traceback.format_tb(error.__traceback__),
    }

"""Errors that say that PostgreSQL is away, for a moment or for long: nothing is wrong with what was asked of it.

One list for whoever reads or writes: what is left out here is answered 500 by a query side, and stops a partition.
"""

import asyncio

import asyncpg

# The server, or the way to it, is not there yet, or not any more.
NOT_YET_THERE: tuple[type[Exception], ...] = (
    OSError,  # connection refused, reset, broken; no such host
    TimeoutError,
    EOFError,  # asyncio.IncompleteReadError is one
    asyncpg.InterfaceError,  # the driver's word for a connection that is gone
    asyncpg.InternalClientError,  # the driver met the end of a connection in the middle of a message
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.InsufficientResourcesError,  # class 53: too many connections, disk full, out of memory
    asyncpg.OperatorInterventionError,  # class 57: shutdown, crash recovery, "cannot connect now", cancelled
)

AWAY: tuple[type[Exception], ...] = (
    *NOT_YET_THERE,
    asyncio.InvalidStateError,  # the driver again: its connection ended between two of its own steps
    asyncpg.InvalidAuthorizationSpecificationError,  # class 28: NOLOGIN, another password
    asyncpg.InvalidCatalogNameError,  # class 3D
    asyncpg.InsufficientPrivilegeError,  # 42501: grants revoked
    asyncpg.TransactionRollbackError,  # class 40: deadlock; on a replica, replay needed what the query read
    asyncpg.ProgramLimitExceededError,  # class 54
    asyncpg.ObjectNotInPrerequisiteStateError,  # class 55: locks that are not available, a server in recovery
    asyncpg.PostgresSystemError,  # class 58: I/O errors of the server
    asyncpg.InternalServerError,  # class XX: its insides, damaged data and indexes
    asyncpg.ReadOnlySQLTransactionError,  # a failover made our server a standby
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    # A session that is not what it was, or was never ours: a pooler's, or one whose plans are of another time.
    asyncpg.FeatureNotSupportedError,  # "cached plan must not change result type"
    asyncpg.InvalidTransactionInitiationError,
    asyncpg.InvalidTransactionStateError,
    asyncpg.InvalidTransactionTerminationError,
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.InvalidCursorNameError,
    asyncpg.InvalidCursorStateError,
    asyncpg.SavepointError,
    asyncpg.InvalidGrantorError,
    asyncpg.InvalidRoleSpecificationError,
    asyncpg.ConfigFileError,
    asyncpg.FDWError,
    asyncpg.SnapshotTooOldError,
)

# The database is of another version than we are: what a statement names is not there, or is something else.
ANOTHER_SCHEMA: tuple[type[Exception], ...] = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedObjectError,
    asyncpg.DatatypeMismatchError,
    asyncpg.WrongObjectTypeError,
    asyncpg.GeneratedAlwaysError,
    asyncpg.InvalidColumnReferenceError,
)

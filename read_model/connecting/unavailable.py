"""The errors that mean that PostgreSQL is unavailable, briefly or for long, and that the request itself is correct.

The query side answers them with 503, and any error that is not listed with 500.
"""

import asyncio

import asyncpg

# All errors of PostgreSQL, its driver and the network: any other is a fault of the program that uses them.
OF_POSTGRESQL: tuple[type[Exception], ...] = (
    OSError,  # connection refused, reset, broken; TimeoutError
    EOFError,  # asyncio.IncompleteReadError
    asyncpg.PostgresError,
    asyncpg.InterfaceError,  # the driver raises this for a lost connection
    asyncpg.InternalClientError,
    asyncio.InvalidStateError,  # from the driver: the connection ended between two of its own steps
)

# The server or the network is not available yet, or no longer.
NOT_YET_THERE: tuple[type[Exception], ...] = (
    OSError,  # connection refused, reset, broken; no such host
    TimeoutError,
    EOFError,  # asyncio.IncompleteReadError is one
    asyncpg.InterfaceError,  # the driver raises this for a lost connection
    asyncpg.InternalClientError,  # the connection ended in the middle of a message
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.InsufficientResourcesError,  # class 53: too many connections, disk full, out of memory
    asyncpg.OperatorInterventionError,  # class 57: shutdown, crash recovery, "cannot connect now", cancelled
)

DATABASE_UNAVAILABLE: tuple[type[Exception], ...] = (
    *NOT_YET_THERE,
    asyncio.InvalidStateError,  # from the driver: the connection ended between two of its own steps
    asyncpg.InvalidAuthorizationSpecificationError,  # class 28: NOLOGIN, another password
    asyncpg.InvalidCatalogNameError,  # class 3D
    asyncpg.InsufficientPrivilegeError,  # 42501: grants revoked
    asyncpg.TransactionRollbackError,  # class 40: deadlock; on a replica, replay needed what the query read
    asyncpg.ProgramLimitExceededError,  # class 54
    asyncpg.ObjectNotInPrerequisiteStateError,  # class 55: locks that are not available, a server in recovery
    asyncpg.PostgresSystemError,  # class 58: I/O errors of the server
    asyncpg.InternalServerError,  # class XX: internal errors, damaged data and indexes
    asyncpg.ReadOnlySQLTransactionError,  # a failover made our server a standby
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    # The session's state is not what we left: a pooler gave us another session, or its cached plans are outdated.
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

# The database has another schema version: an object that a statement names is missing or is of another kind.
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

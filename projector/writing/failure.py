"""Failures are of a kind, and the kind decides (docs/decisions/0006). An unknown SQLSTATE is never a record's fault."""

import traceback
from collections.abc import Iterator
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

    TRANSIENT = "transient"  # the world is at fault: wait, and try the same again, for ever
    TOO_MUCH = "too much"  # of time, memory or room for one try: try less
    SERVER = "server"  # the database refuses or fails, until somebody mends it: wait, on a new connection
    DEFECT = "defect"  # the code is at fault: stop and say so
    SUSPECT = "suspect"  # some record may be at fault: find it, and try it against one that is known to be good


class NotConnectedError(Exception):
    """No connection to PostgreSQL could be had. Whatever the reason (`__cause__`), it says nothing of any record."""


# Whatever PostgreSQL, its driver or the way to it may say. In the background all of it is logged and tried again.
DATABASE_ERRORS = (
    NotConnectedError,
    OSError,  # connection refused, reset, broken; TimeoutError
    EOFError,  # asyncio.IncompleteReadError
    asyncpg.PostgresError,
    asyncpg.InterfaceError,  # the driver's word for a connection that is gone
    asyncpg.InternalClientError,
)

# What the driver says of the database or of our settings.
DRIVER_SERVER = (
    asyncpg.OutdatedSchemaCacheError,
    asyncpg.UnsupportedClientFeatureError,
    asyncpg.exceptions.ClientConfigurationError,
)

# Every class of PostgreSQL's appendix A, by the first two characters of its codes.
CLASSES = {
    "00": Failure.DEFECT,  # successful completion
    "01": Failure.DEFECT,  # warning
    "02": Failure.DEFECT,  # no data
    "03": Failure.DEFECT,  # SQL statement not yet complete
    "08": Failure.TRANSIENT,  # connection exception
    "09": Failure.SUSPECT,  # triggered action exception
    "0A": Failure.SERVER,  # feature not supported: "cached plan must not change result type" lives in the session
    "0B": Failure.SERVER,  # invalid transaction initiation
    "0F": Failure.DEFECT,  # locator exception
    "0L": Failure.SERVER,  # invalid grantor
    "0P": Failure.SERVER,  # invalid role specification
    "0Z": Failure.DEFECT,  # diagnostics exception
    "10": Failure.SUSPECT,  # XQuery error
    "20": Failure.SUSPECT,  # case not found
    "21": Failure.SUSPECT,  # cardinality violation
    "22": Failure.SUSPECT,  # data exception
    "23": Failure.SUSPECT,  # integrity constraint violation
    "24": Failure.SERVER,  # invalid cursor state
    "25": Failure.SERVER,  # invalid transaction state: a session that is read-only, or left in a failed transaction
    "26": Failure.SERVER,  # invalid SQL statement name: a pooler between us gave us another's session
    "27": Failure.SUSPECT,  # triggered data change violation
    "28": Failure.SERVER,  # invalid authorization specification
    "2B": Failure.DEFECT,  # dependent privilege descriptors still exist
    "2D": Failure.SERVER,  # invalid transaction termination
    "2F": Failure.SUSPECT,  # SQL routine exception
    "34": Failure.SERVER,  # invalid cursor name
    "38": Failure.SUSPECT,  # external routine exception
    "39": Failure.SUSPECT,  # external routine invocation exception
    "3B": Failure.SERVER,  # savepoint exception
    "3D": Failure.SERVER,  # invalid catalog name
    "3F": Failure.SERVER,  # invalid schema name
    "40": Failure.TRANSIENT,  # transaction rollback: deadlock, serialization
    "42": Failure.DEFECT,  # syntax error or access rule violation; see CODES
    "44": Failure.SUSPECT,  # WITH CHECK OPTION violation
    "53": Failure.TRANSIENT,  # insufficient resources: disk full, too many connections
    "54": Failure.TOO_MUCH,  # program limit exceeded
    "55": Failure.SERVER,  # object not in prerequisite state: "not currently accepting connections"
    "57": Failure.TRANSIENT,  # operator intervention: shutdown, crash recovery, "the database system is starting up"
    "58": Failure.SERVER,  # system error: input and output
    "72": Failure.TOO_MUCH,  # snapshot too old
    "F0": Failure.SERVER,  # configuration file error
    "HV": Failure.SERVER,  # foreign data wrapper error
    "P0": Failure.SUSPECT,  # PL/pgSQL error: what a trigger raises
    "XX": Failure.SERVER,  # internal error: data or index corrupted
}

# Codes that are of another kind than their class.
CODES = {
    "2200H": Failure.SERVER,  # sequence generator limit exceeded
    "25006": Failure.TRANSIENT,  # read-only SQL transaction: a failover made our server a standby, or will
    "25P03": Failure.TRANSIENT,  # idle in transaction session timeout: we were frozen in the middle of one
    "25P04": Failure.TOO_MUCH,  # transaction timeout
    "42501": Failure.SERVER,  # insufficient privilege
    "42703": Failure.SERVER,  # undefined column
    "42704": Failure.SERVER,  # undefined object
    "42804": Failure.SERVER,  # datatype mismatch: a column's type was changed
    "42809": Failure.SERVER,  # wrong object type: a view where a table was
    "42883": Failure.SERVER,  # undefined function
    "428C9": Failure.SERVER,  # generated always
    "42P01": Failure.SERVER,  # undefined table
    "42P10": Failure.SERVER,  # invalid column reference: a constraint that ON CONFLICT needs is gone
    "53200": Failure.TOO_MUCH,  # out of memory
    "53400": Failure.TOO_MUCH,  # configuration limit exceeded: temp_file_limit
    "55006": Failure.TRANSIENT,  # object in use
    "55P03": Failure.TRANSIENT,  # lock not available
    "57014": Failure.TOO_MUCH,  # query canceled: statement_timeout
    "57P04": Failure.SERVER,  # database dropped
}


def kind_of(error: BaseException) -> Failure:
    """The kind of a failure to apply a batch."""
    if isinstance(error, asyncpg.PostgresError):
        code = getattr(error, "sqlstate", None) or "XX000"
        # A code that nobody knows says that something is wrong, and not that it is the record.
        return CODES.get(code) or CLASSES.get(code[:2], Failure.SERVER)
    if isinstance(error, NotConnectedError):
        return Failure.TRANSIENT
    if isinstance(error, TimeoutError | MemoryError):
        return Failure.TOO_MUCH
    if isinstance(error, DRIVER_SERVER):
        return Failure.SERVER
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return Failure.SUSPECT  # the driver refused to encode a value
    return Failure.TRANSIENT if isinstance(error, DATABASE_ERRORS) else Failure.SUSPECT


def storable_words(text: str) -> str:
    """The text as a text column and a log can hold it: a field's name may be long, and hold NUL or half a character."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()[:MAX_MESSAGE_LENGTH]


def unappliable(error: BaseException) -> Diagnosis:
    """Why a valid event is parked. The error's own text may quote the event, so only its class is kept."""
    return Diagnosis("poison", type(error).__name__, "The event is valid, but could not be applied; others can.")


def named(error: BaseException) -> str:
    """An error in a few words: its class, PostgreSQL's code, and its text unless that may quote an event.

    A group is named by its leaves; what could not connect, by the reason.
    """
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(map(named, leaves(error))))
    if isinstance(error, NotConnectedError) and error.__cause__ is not None:
        return f"not connected to PostgreSQL: {named(error.__cause__)}"
    code = getattr(error, "sqlstate", None)
    words = f"{type(error).__name__} {code}" if code else type(error).__name__
    told = "" if kind_of(error) is Failure.SUSPECT else str(error).partition("\n")[0]
    return f"{words}: {told}" if told else words


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, however deep; a single error is its own leaf."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def diagnosis(error: BaseException) -> dict[str, object]:
    """What a log may say of a failure: no message, for PostgreSQL and its driver quote the values they refuse."""
    cause = error.__cause__ if isinstance(error, NotConnectedError) and error.__cause__ is not None else error
    return {
        "error": type(cause).__name__,
        "kind": kind_of(error).value,
        "sqlstate": getattr(cause, "sqlstate", None),
        "table": getattr(cause, "table_name", None),
        "constraint": getattr(cause, "constraint_name", None),
        "where": traceback.format_tb(error.__traceback__),
    }

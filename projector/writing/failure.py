"""Classifies failures; the kind decides what follows (docs/decisions/0006). An unknown SQLSTATE blames no record."""

import traceback
from collections.abc import Iterator
from enum import Enum
from typing import Literal

import asyncpg
import msgspec
from aiokafka.errors import KafkaError

from read_model.connecting.unavailable import OF_POSTGRESQL
from sealing.errors import KeysError, KeyStoreAwayError

MAX_MESSAGE_LENGTH = 1_000  # characters

Cause = Literal["poison", "newer_version", "behind"]


class Diagnosis(msgspec.Struct, frozen=True):
    """Why a record was parked. The message may be logged: of the record's value it quotes names of unknown fields only.

    `behind_offset`: the offset of the parked record that it waits behind, if any.
    """

    cause: Cause
    error_class: str
    error_message: str
    behind_offset: int | None = None


class Failure(Enum):
    """The kind of a failure, which decides how the projector reacts."""

    TRANSIENT = "transient"  # the environment is at fault: wait and retry the same batch, for ever
    TOO_MUCH = "too much"  # the batch needs too much time, memory or space: retry with fewer records
    SERVER = "server"  # the database refuses or fails until somebody repairs it: wait, on a new connection
    DEFECT = "defect"  # the code is at fault: stop the partition with a reason
    SUSPECT = "suspect"  # some record may be at fault: find it, and compare it with an event known to be good


class NotOpenedError(Exception):
    """The log has sealed records, and this process has no key store."""

    def __init__(self) -> None:
        super().__init__("The log has sealed records, and this process has no key store: set KEY_STORE_URL.")


class OpenerFaultError(Exception):
    """Sealed records could not be opened by a fault of this program; `__cause__` has it. No record is blamed."""

    def __str__(self) -> str:
        return f"sealed records could not be opened: {type(self.__cause__).__name__}"


class OutsideError(Exception):
    """An error of a place outside PostgreSQL that rows are written to; it knows its kind. Its text may be logged."""

    kind = Failure.TRANSIENT


class NotConnectedError(Exception):
    """No connection to PostgreSQL is available. `__cause__` has the reason, which never lies in a record."""


# All errors of PostgreSQL, its driver and the network. Background tasks log them and try again.
DATABASE_ERRORS: tuple[type[Exception], ...] = (NotConnectedError, *OF_POSTGRESQL)

# Errors of the driver that blame the database or our settings.
DRIVER_SERVER = (
    asyncpg.OutdatedSchemaCacheError,
    asyncpg.UnsupportedClientFeatureError,
    asyncpg.exceptions.ClientConfigurationError,
)

SERVER_ERRORS = (*DRIVER_SERVER, KeysError, NotOpenedError)

KINDS: tuple[tuple[tuple[type[BaseException], ...], Failure], ...] = (
    ((OpenerFaultError,), Failure.DEFECT),
    ((NotConnectedError, KeyStoreAwayError), Failure.TRANSIENT),
    ((TimeoutError, MemoryError), Failure.TOO_MUCH),
    (SERVER_ERRORS, Failure.SERVER),
)

# Every class of SQLSTATE codes in PostgreSQL's appendix A, by its first two characters.
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

# SQLSTATE codes whose kind differs from the kind of their class.
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
    """Returns the kind of an error that a batch failed with."""
    if isinstance(error, OutsideError):
        return error.kind
    if isinstance(error, asyncpg.PostgresError):
        code = getattr(error, "sqlstate", None) or "XX000"
        # An unknown code shows that something is wrong, but not that a record is.
        return CODES.get(code) or CLASSES.get(code[:2], Failure.SERVER)
    return next((kind for errors, kind in KINDS if isinstance(error, errors)), None) or _kind_of_driver_error(error)


def _kind_of_driver_error(error: BaseException) -> Failure:
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return Failure.SUSPECT  # the driver refused to encode a value
    return Failure.TRANSIENT if isinstance(error, DATABASE_ERRORS) else Failure.SUSPECT


def storable_words(text: str) -> str:
    """Returns the text as a text column and a log can hold it: shortened, without NUL and without lone surrogates."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()[:MAX_MESSAGE_LENGTH]


def cannot_be_applied(error: BaseException) -> Diagnosis:
    """Returns the diagnosis of a valid event that cannot be applied.

    It keeps only the class of the error, because the error's text may quote the event.
    """
    return Diagnosis("poison", type(error).__name__, "The event is valid, but could not be applied; others can.")


def describe_error(error: BaseException) -> str:
    """Describes an error in a few words: its class, its SQLSTATE, and its text unless that may quote an event.

    A group is described by its leaves, and a NotConnectedError by its cause.
    """
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(map(describe_error, leaves(error))))
    if isinstance(error, NotConnectedError) and error.__cause__ is not None:
        return f"not connected to PostgreSQL: {describe_error(error.__cause__)}"
    code = getattr(error, "sqlstate", None)
    words = f"{type(error).__name__} {code}" if code else type(error).__name__
    may_quote = kind_of(error) is Failure.SUSPECT and not isinstance(error, KafkaError | OutsideError)
    told = "" if may_quote else str(error).partition("\n")[0]
    return f"{words}: {told}" if told else words


def name_of(error: Exception) -> str:
    """Names an error as the reason of a stop: its class and SQLSTATE, or a sentence of ours."""
    if isinstance(error, KeysError | NotOpenedError | OpenerFaultError | OutsideError):
        return str(error)
    code = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yields the errors in a group, at any depth; an error that is no group yields itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def diagnosis(error: BaseException) -> dict[str, object]:
    """Returns the log fields of a failure, without its message: PostgreSQL and its driver quote refused values."""
    cause = error.__cause__ if isinstance(error, NotConnectedError) and error.__cause__ is not None else error
    return {
        "error": type(cause).__name__,
        "kind": kind_of(error).value,
        "sqlstate": getattr(cause, "sqlstate", None),
        "table": getattr(cause, "table_name", None),
        "constraint": getattr(cause, "constraint_name", None),
        "where": traceback.format_tb(error.__traceback__),
    }

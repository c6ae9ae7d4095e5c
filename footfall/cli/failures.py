"""Turns the failure of a command into one sentence on standard error, without a traceback and without secrets."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never

import rich_click as click

from footfall.cli.called_as import as_called

TRACEBACK = "FOOTFALL_TRACEBACK"  # if this variable is set, an unexpected error is raised with its traceback
SILENT = {"TimeoutError": "no answer in time", "IncompleteReadError": "the connection was lost"}


@contextmanager
def readable_failures(
    what: str, code: int = 1, refusals: tuple[type[Exception], ...] = (), server: str = "PostgreSQL"
) -> Iterator[None]:
    """Prints whatever the body raises as one line and exits.

    Args:
        what: What was not done, or the command's name; begins the line.
        code: Exit code for any error but a refusal.
        refusals: Errors whose text is a complete sentence; they exit 1.
        server: The server to name for a lost connection whose error does not name one.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the error that it raises says the same
    try:
        yield
    except (SystemExit, KeyboardInterrupt, click.ClickException, click.Abort):
        raise
    except refusals as error:
        fail(str(error))
    except BaseException as error:
        if os.environ.get(TRACEBACK):
            raise
        fail(f"{what}: {sentence(error, server)}", code)


def sentence(error: BaseException, server: str) -> str:
    """Says what happened in one line. It quotes only errors whose text is known to hold no secret."""
    if isinstance(error, BaseExceptionGroup):
        return sentence(error.exceptions[0], server)
    cause: BaseException = getattr(error, "orig", None) or error  # SQLAlchemy wraps the driver's error twice
    if cause is not error and cause.__cause__ is not None:
        cause = cause.__cause__
    name = type(cause).__name__
    if name == "AuditUnavailableError":  # its text is a sentence of ours
        return str(cause)
    if not isinstance(cause, _foreseen()):
        return f"unexpected {name}. To see its traceback, run the command again with {TRACEBACK}=1"
    text = (str(cause).splitlines() or [""])[0] or SILENT.get(name, "no more is known")
    return f"{_blamed(cause, server)}{name}: {text}"


def fail(text: str, code: int = 1) -> Never:
    """Prints the text on standard error and exits with `code`."""
    click.echo(f"footfall: {as_called(text)}", err=True)
    sys.exit(code)


def _foreseen() -> tuple[type[BaseException], ...]:
    import asyncpg
    from aiokafka.errors import KafkaError
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    driver = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    return (OSError, EOFError, ValueError, KafkaError, SQLAlchemyError, CommandError, *driver)


def _blamed(error: BaseException, server: str) -> str:
    import asyncpg
    from aiokafka.errors import KafkaError

    if isinstance(error, KafkaError):
        return "Kafka cannot be used: "
    lost = (OSError, EOFError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    return f"{server} cannot be used: " if isinstance(error, lost) else ""

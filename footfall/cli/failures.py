"""How a command says that it failed: one sentence, never a traceback, never a secret."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never

import rich_click as click

from footfall.cli.called_as import as_called

TRACEBACK = "FOOTFALL_TRACEBACK"  # set: what nobody foresaw is raised, for whoever looks for its cause
SILENT = {"TimeoutError": "no answer in time", "IncompleteReadError": "the connection was lost"}


@contextmanager
def readable_failures(
    what: str, code: int = 1, refusals: tuple[type[Exception], ...] = (), server: str = "PostgreSQL"
) -> Iterator[None]:
    """Turns whatever fails into one line and exit `code`. `what` says what was not done, or which command it was.

    `refusals`: errors whose text is a sentence of its own; they exit 1. `server`: whose fault a lost connection is that
    does not say so itself.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it logs before it raises is said below
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
    """What happened, in one line. Only errors whose text is known to be fit for people are quoted."""
    if isinstance(error, BaseExceptionGroup):
        return sentence(error.exceptions[0], server)
    cause: BaseException = getattr(error, "orig", None) or error  # SQLAlchemy wraps it, and adds a link of its own
    if cause is not error and cause.__cause__ is not None:
        cause = cause.__cause__
    name = type(cause).__name__
    if not isinstance(cause, _foreseen()):
        return f"{name}, which nobody foresaw. To see where it came from, run it again with {TRACEBACK}=1"
    text = (str(cause).splitlines() or [""])[0] or SILENT.get(name, "no more is known")
    return f"{_blamed(cause, server)}{name}: {text}"


def fail(text: str, code: int = 1) -> Never:
    """Says it on standard error, and exits."""
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

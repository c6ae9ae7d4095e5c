"""How a command that cannot reach a server says so."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import rich_click as click


@contextmanager
def readable_failures(what: str) -> Iterator[None]:
    """Turns a failure to reach a server into one line and exit 1."""
    import asyncpg
    from aiokafka.errors import KafkaError
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it logs before it raises is said below
    try:
        yield
    except (OSError, ValueError, KafkaError, SQLAlchemyError, asyncpg.PostgresError, CommandError) as error:
        cause = getattr(error, "orig", None) or error  # SQLAlchemy wraps it, and adds a link of its own
        click.echo(f"footfall: {what}: {type(cause).__name__}: {(str(cause).splitlines() or [''])[0]}", err=True)
        sys.exit(1)

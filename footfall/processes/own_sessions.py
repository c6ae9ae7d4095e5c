"""Refuses to start a process behind a pooler that shares PostgreSQL sessions (see read_model/connecting/pooler.py)."""

import asyncio
import sys

import asyncpg

from read_model.connecting.database_url import parse
from read_model.connecting.pooler import REFUSED, detect_sessions


def require_own_sessions(*database_urls: str) -> None:
    """Exits 1 with the reason if a pooler shares sessions.

    A server that cannot be reached is ignored here: the process itself waits for it and reports it.

    Args:
        database_urls: PostgreSQL URLs; empty ones are ignored.
    """
    for url in filter(None, database_urls):
        try:
            sessions = asyncio.run(detect_sessions(parse(url).driver()))
        except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError):
            continue
        if sessions == "shared":
            print(f"footfall: {REFUSED}", file=sys.stderr)
            sys.exit(1)

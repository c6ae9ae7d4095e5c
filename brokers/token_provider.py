"""Which provider gives the tokens of a source."""

from functools import lru_cache
from pathlib import Path

from aiokafka.abc import AbstractTokenProvider

from brokers.credentials import FileToken, TokenEndpoint


@lru_cache(maxsize=8)
def token_provider(source: Path | TokenEndpoint) -> AbstractTokenProvider:
    """Returns the provider of this source; all clients of a process share it, and so its token."""
    if isinstance(source, Path):
        return FileToken(source)
    from brokers.fetched_token import FetchedToken  # noqa: PLC0415 - httpx is slow to import, and few need it

    return FetchedToken(source)

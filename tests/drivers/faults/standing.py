"""`footfall` with a projector that stands still, as aiokafka's issues 625, 847 and 1154 look: no error, no records."""

import asyncio
from typing import Any

from footfall.cli.main import main
from projector.consuming.fetch import Fetcher
from projector.liveness import watchdog

FETCH = 0.1  # seconds


async def nothing(_fetcher: Fetcher, *_: Any) -> Any:
    """A fetch in vain."""
    await asyncio.sleep(FETCH)
    return {}


if __name__ == "__main__":
    setattr(Fetcher, "fetch", nothing)  # noqa: B010 - a detail of that class
    watchdog.LEAST_SPAN = 2.0
    main()

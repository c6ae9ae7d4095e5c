"""Opens a part of a fetch, and tells a fault of this program from the trouble of a server."""

from typing import Any

from projector.consuming.batch import Part
from projector.sealed.opener import Opener, Unsealed
from projector.writing.failure import DATABASE_ERRORS, OpenerFaultError
from sealing.errors import KeysError

NOT_OUR_FAULT: tuple[type[Exception], ...] = (KeysError, MemoryError, *DATABASE_ERRORS)


async def opened_part(opener: Opener | Unsealed, part: Part, pool: Any) -> Part:
    """The part with its sealed records opened. Raises KeysError, asyncpg's errors and OpenerFaultError."""
    try:
        return await opener.opened_part(part, pool)
    except NOT_OUR_FAULT:
        raise
    except Exception as error:
        raise OpenerFaultError from error

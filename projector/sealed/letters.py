"""Dead letters of the sealed log: they are kept sealed, and opened when they are redriven."""

from collections.abc import Sequence

import msgspec

from projector.dead_letters.redrive_attempt import Letter
from projector.sealed.opener import Opener, Unsealed
from projector.sealed.records import OpenedRecord
from read_model.connecting.pool import Connection


async def opened_letters(opener: Opener | Unsealed, letters: Sequence[Letter], connection: Connection) -> list[Letter]:
    """The letters with the values that were sealed. Raises KeysError."""
    found = await opener.opened_records(letters, connection)
    return [
        msgspec.structs.replace(letter, value=record.value, problem=record.problem)
        if isinstance(record, OpenedRecord)
        else letter
        for letter, record in zip(letters, found, strict=True)
    ]

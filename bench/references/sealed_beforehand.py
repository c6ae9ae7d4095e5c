"""`footfall` with a sealer that hands out what it sealed before: what the volume of a sealed log costs by itself.

The records are as large as those of the sealed log, and are compressed and sent like them. Nothing seals them.
"""

from contracts.record import EventRecord
from footfall.cli.main import main
from sealing.sealer import Sealer

DISTINCT = 5_000  # records that are sealed first, and handed out in turn from then on

_seal = Sealer.sealed
_made: list[EventRecord] = []
_next = 0


def handed_out(sealer: Sealer, record: EventRecord) -> EventRecord | None:
    """See `Sealer.sealed`."""
    global _next  # noqa: PLW0603 - this module is a process
    if len(_made) < DISTINCT:
        sealed = _seal(sealer, record)
        if sealed is not None:
            _made.append(sealed)
        return sealed
    _next = (_next + 1) % DISTINCT
    return _made[_next]


if __name__ == "__main__":
    setattr(Sealer, "sealed", handed_out)  # noqa: B010 - no type checker likes it
    main()

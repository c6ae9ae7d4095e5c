"""Reports processes with different catalogues of event types."""

from collections.abc import Sequence

from contracts.types import Catalogue


def differing_catalogues(in_use: Sequence[str], own: Catalogue | None) -> list[str]:
    """Returns a sentence if projectors have different event types, or others than `own`.

    Args:
        in_use: The digests that projectors use.
        own: The catalogue that the environment names here; None: it names none.
    """
    if len(in_use) > 1:
        return [
            f"The projectors have different catalogues of event types: {', '.join(in_use)}. Give all the same file."
        ]
    if own is not None and in_use and in_use != [own.digest]:
        return [f"The projectors' event types are {in_use[0]}, those of EVENT_TYPES_FILE here {own.digest}."]
    return []

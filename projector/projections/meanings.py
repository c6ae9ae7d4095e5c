"""What the type of an event means to the projections: the catalogue's word, or nothing for a type it does not declare.

Rows say it only where it is not what SQL takes a name for (`AS_NAMED`), so that the shipped types cost nothing.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from contracts.event import UserEvent
from contracts.types import AS_NAMED, Catalogue, EventType, Meaning

MAX_PRODUCT_ID_LENGTH = 256  # characters
_control_character = re.compile(r"[\u0000-\u001f\u007f-\u009f]").search


class Means(NamedTuple):
    """What a type means. `product`: the payload field of the product. `stored`: as a row says it, empty for AS_NAMED.

    `is_other`: no column of `user_activity` counts this type alone, so rows count it by its name.
    """

    meaning: Meaning
    product: str | None
    stored: str
    is_other: bool


class Meanings(dict[str, Means]):
    """By name, what each type means; a name that the catalogue does not declare means nothing, and is found so."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__((each.name, _means(each.name, each)) for each in catalogue.types)
        for name in AS_NAMED.keys() - self.keys():
            self[name] = _means(name, None)
        self.has_other_types = any(each.is_other for each in self.values())
        self._all_as_named = not any(each.stored for each in self.values())

    def __missing__(self, name: str) -> Means:
        found = self[name] = _means(name, None)
        self.has_other_types = True
        return found

    def stored(self, events: Iterable[UserEvent]) -> list[tuple[str, str]] | None:
        """For each event, what its row says of its meaning and product; None: every row says nothing."""
        return None if self._all_as_named else list(map(self._stored, events))

    def _stored(self, event: UserEvent) -> tuple[str, str]:
        means = self[event.event_type]
        product = product_of(event, means.product) if means.stored and means.product is not None else None
        return means.stored, product or ""


def _means(name: str, declared: EventType | None) -> Means:
    meaning: Meaning = "nothing" if declared is None else declared.means
    product = None if declared is None else declared.product
    usual = AS_NAMED.get(name, ("nothing", None))
    is_other = name not in AS_NAMED or meaning != usual[0]
    return Means(meaning, product, "" if (meaning, product) == usual else meaning, is_other)


def product_of(event: UserEvent, field: str) -> str | None:
    """The product of a view: this field of the payload, if it is a string of 1 to 256 characters, none of them a
    control character (Unicode category Cc). Any other view is a view of no product.
    """
    product = event.payload.get(field)
    if type(product) is not str or not 0 < len(product) <= MAX_PRODUCT_ID_LENGTH:
        return None
    if product.isascii():
        return product if product.isprintable() else None
    return None if _control_character(product) else product

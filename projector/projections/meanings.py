"""The meaning of event types for the projections, as the catalogue declares it; undeclared types mean nothing.

A row stores the meaning only if it differs from the meaning that SQL assumes for the type's name (`AS_NAMED`). So the
shipped types cost no space.
"""

from collections.abc import Iterable
from typing import NamedTuple

from contracts.event import UserEvent
from contracts.types import AS_NAMED, MAX_PRODUCT_ID_LENGTH, Catalogue, EventType, Meaning, has_control_character


class Means(NamedTuple):
    """The meaning of a type. `product`: the payload field with the product id, if any.

    `stored`: the meaning as a row stores it; empty if it is that of `AS_NAMED`. `is_other`: no column of
    `user_activity` counts exactly this type, so rows of `user_activity_types` count it by name.
    """

    meaning: Meaning
    product: str | None
    stored: str
    is_other: bool


class Meanings:
    """What each type means. One that the catalogue does not declare means nothing; that it came is remembered.

    `known`: meaning and product field by name. `has_other_types`: whether there may be types that no column counts.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._means = {each.name: _means(each.name, each) for each in catalogue.types}
        for name in AS_NAMED.keys() - self._means.keys():
            self._means[name] = _means(name, None)
        self.known: dict[str, tuple[Meaning, str | None]] = {
            name: (each.meaning, each.product) for name, each in self._means.items()
        }
        self.has_other_types = any(each.is_other for each in self._means.values())
        self._all_as_named = not any(each.stored for each in self._means.values())

    def unknown(self, name: str) -> tuple[Meaning, str | None]:
        """Notes a type that the catalogue does not declare; returns what it means."""
        found: tuple[Meaning, str | None] = ("nothing", None)
        self.known[name] = found
        self._means[name] = _means(name, None)
        self.has_other_types = True
        return found

    def stored(self, events: Iterable[UserEvent]) -> list[tuple[str, str]] | None:
        """For each event, what its row says of its meaning and product; None: every row says nothing."""
        return None if self._all_as_named else list(map(self._stored, events))

    def _stored(self, event: UserEvent) -> tuple[str, str]:
        means = self._means.get(event.event_type)
        if means is None or not means.stored:
            return "", ""
        product = None if means.product is None else product_of(event, means.product)
        return means.stored, product or ""


def _means(name: str, declared: EventType | None) -> Means:
    meaning: Meaning = "nothing" if declared is None else declared.means
    product = None if declared is None else declared.product
    usual = AS_NAMED.get(name, ("nothing", None))
    is_other = name not in AS_NAMED or meaning != usual[0]
    return Means(meaning, product, "" if (meaning, product) == usual else meaning, is_other)


def product_of(event: UserEvent, field: str) -> str | None:
    """Returns the product id of a view: a field of the payload.

    As `contracts.types.is_product` says, with a call less: it must be a string of 1 to 256 characters without control
    characters (Unicode category Cc); else the view has no product, and the result is None.
    """
    product = event.payload.get(field)
    if type(product) is not str or not 0 < len(product) <= MAX_PRODUCT_ID_LENGTH:
        return None
    if product.isascii():
        return product if product.isprintable() else None
    return None if has_control_character(product) else product

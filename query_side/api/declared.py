"""The parameters that routes declare in their signatures: type, bounds, what they mean, an example."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar.openapi.spec import Example
from litestar.params import HeaderParameter, PathParameter, QueryParameter

from contracts.types import FIRST_TYPES
from query_side.api.parameters import MAX_REPEATS, MAX_TEXT_LENGTH

NO_CONTROL_CHARACTERS = r"^[^\u0000-\u001f\u007f-\u009f]+$"
# A time with an offset, or a date. `format` alone would let more through than there is.
MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2}))?$"
CURSOR = r"^[A-Za-z0-9_-]{22,4096}$"
MOMENT_RULE = "a date (its first moment in UTC), or a time with an offset"

EXAMPLE_ID = "0197d0c1-7b8a-7cc3-98c4-dc0c0c07398f"
EXAMPLE_CURSOR = "uZ0Xv2cQm0m4iJk0QbX7MQAGSaAF5Q5AAZfQwXuKfMOYxNwMDAc5jw"


def example(value: object) -> list[Example]:
    """The one example of a parameter."""
    return [Example(value=value)]


def name(parameter: str, description: str, text: str) -> QueryParameter:
    """A parameter that is a user id or a product id."""
    return QueryParameter(
        name=parameter,
        description=description,
        min_length=1,
        max_length=MAX_TEXT_LENGTH,
        pattern=NO_CONTROL_CHARACTERS,
        examples=example(text),
    )


def at_most(most: int, usually: int) -> QueryParameter:
    """The parameter `limit`."""
    return QueryParameter(name="limit", description="How many at most.", ge=1, le=most, examples=example(usually))


EventId = Annotated[UUID, PathParameter(name="eventId", description="The event's id.", examples=example(EXAMPLE_ID))]
UserId = Annotated[
    str,
    PathParameter(
        name="id",
        description="Who acted, percent-encoded; `%2F` belongs to the id.",
        min_length=1,
        max_length=MAX_TEXT_LENGTH,
        pattern=NO_CONTROL_CHARACTERS,
        examples=example("user-123"),
    ),
]
AnyUserId = Annotated[str, name("userId", "Who acted.", "user-123")]
OfUser = Annotated[str | None, name("userId", "Events of this user.", "user-123")]
OfProduct = Annotated[str | None, name("productId", "Views of this product.", "p-42")]
# Described with the shipped types; `strictness.py` takes those of the catalogue.
OfTypes = Annotated[
    tuple[str, ...],
    QueryParameter(
        name="eventType",
        description="Only this type; may be repeated.",
        max_items=MAX_REPEATS,
        schema_extra={"items": {"type": "string", "enum": list(FIRST_TYPES)}},
        examples=example(["LOGIN", "LOGOUT"]),
    ),
]
From = Annotated[
    datetime | None,
    QueryParameter(
        name="from",
        description=f"Not earlier than this: {MOMENT_RULE}.",
        schema_extra={"pattern": MOMENT},
        examples=example("2026-01-31"),
    ),
]
To = Annotated[
    datetime | None,
    QueryParameter(
        name="to",
        description=f"Earlier than this: {MOMENT_RULE}.",
        schema_extra={"pattern": MOMENT},
        examples=example("2026-02-01T00:00:00Z"),
    ),
]
Cursor = Annotated[
    str | None,
    QueryParameter(
        name="cursor",
        description="Where to go on: as the `Link` of the page before has it. Good for the same request only.",
        schema_extra={"pattern": CURSOR},  # what is no cursor is refused in the words of cursors
    ),
]
ONE_POSITION = "([0-9]{1,6}-[0-9]{1,18}|[A-Za-z0-9_-]{59})"
POSITION = QueryParameter(
    name="position",
    description="Answer once the read model has passed these positions: `<partition>-<offset>`, or the sealed texts "
    "that other tenants than `default` are given, with commas between. The header `Footfall-Position` means the same.",
    schema_extra={"pattern": rf"^{ONE_POSITION}(,{ONE_POSITION}){{0,63}}$"},
    examples=example("0-0"),
)
PREFER = HeaderParameter(
    name="Prefer",
    description="`wait=<seconds>`, a fraction, too: how long to wait for `position`; at most 30, 5 without it.",
    examples=example("wait=0"),
)
# They are read before the route is (log_positions/read_your_writes.py).
OF_EVERY_ROUTE = {
    name: replace(parameter, annotation=str | None, required=False)
    for name, parameter in (("position", POSITION), ("prefer", PREFER))
}

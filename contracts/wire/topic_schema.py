"""The one JSON Schema of the topic's values: any of what may stand in the topic (docs/decisions/0050).

A new version of the event is one alternative more, which every registry takes for compatible (BACKWARD): old records
stay valid. Words are left out, so that releases whose rules agree share one id.
"""

from functools import cache

import msgspec

from contracts.blank import BLANK
from contracts.erasure import SealedErasure, UserErasure
from contracts.published import without_words
from contracts.sealed.events import UserEventV3
from contracts.versions import UserEventV1, UserEventV2

DRAFT = "http://json-schema.org/draft-07/schema#"  # the newest that every registry compares
TITLE = "FootfallRecord"


KINDS = (UserEventV1, UserEventV2, UserEventV3, UserErasure, SealedErasure)


@cache
def topic_schema() -> str:
    """The schema's text, the same in every process of a release."""
    schemas, definitions = msgspec.json.schema_components(KINDS, ref_template="#/definitions/{name}")
    blank = {name: {"const": value} for name, value in msgspec.json.decode(BLANK).items()}
    definitions["Blank"] = {
        "type": "object",
        "properties": blank,
        "required": sorted(blank),
        "additionalProperties": False,
    }
    schema = {
        "$schema": DRAFT,
        "title": TITLE,
        "oneOf": [*schemas, {"$ref": "#/definitions/Blank"}],
        "definitions": {name: without_words(each) for name, each in definitions.items()},
    }
    return msgspec.json.encode(schema, order="sorted").decode()

"""The JSON Schemas that Footfall publishes, and the check that what a published one accepts never changes.

`python -m contracts.published` compares `contracts/schemas/` with the structs and exits 1 at a difference; with
`--write` it adds the files of new versions and puts better words into the others, and still refuses to change what one
that is there accepts.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec

from contracts.erasure import SealedErasure, UserErasure
from contracts.event import ActivityCommand
from contracts.sealed.events import UserEventV3
from contracts.types import FIRST_TYPES
from contracts.versions import PUBLISHED, with_types

WORDS = frozenset({"description", "examples", "title", "$comment"})  # annotations: no validator looks at them
SCHEMAS = Path(__file__).parent / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def published_schemas() -> dict[str, dict[str, Any]]:
    """File name to JSON Schema (2020-12) of the command, the erasure, and every version of the event."""
    shapes: dict[str, type[msgspec.Struct]] = {"activity-command-1.json": with_types(ActivityCommand, FIRST_TYPES)}
    shapes["user-erasure-1.json"] = UserErasure
    shapes |= {"user-event-3.json": UserEventV3, "user-erasure-3.json": SealedErasure}
    shapes |= {f"user-event-{version}.json": shape for version, shape in PUBLISHED.items()}
    return {name: {"$schema": DIALECT, **msgspec.json.schema(shape)} for name, shape in shapes.items()}


def rendered(schema: dict[str, Any]) -> bytes:
    """The schema as its file has it."""
    return msgspec.json.format(msgspec.json.encode(schema, order="sorted"), indent=2) + b"\n"


def differences(directory: Path = SCHEMAS) -> list[str]:
    """One sentence for each published schema that the code no longer says, or has not published yet."""
    found = []
    for name, schema in published_schemas().items():
        file = directory / name
        if not file.exists():
            found.append(f"{name} is not published yet: run `python -m contracts.published --write`.")
        elif not _accepts_the_same(file, schema):
            found.append(f"{name} is published and never changes: undo the change, or make a new version.")
        elif file.read_bytes() != rendered(schema):
            found.append(f"{name} says the same in other words: run `python -m contracts.published --write`.")
    known = published_schemas().keys()
    found += [
        f"{file.name} is published, but its version is gone."
        for file in directory.glob("*.json")
        if file.name not in known
    ]
    return found


def write_new(directory: Path = SCHEMAS) -> None:
    """Publishes the schemas that have no file yet, and the words of those that accept what they did."""
    directory.mkdir(exist_ok=True)
    for name, schema in published_schemas().items():
        file = directory / name
        if not file.exists() or _accepts_the_same(file, schema):
            file.write_bytes(rendered(schema))


def _accepts_the_same(file: Path, schema: dict[str, Any]) -> bool:
    published, now = msgspec.json.decode(file.read_bytes()), msgspec.json.decode(rendered(schema))
    return bool(without_words(published) == without_words(now))


def without_words(schema: Any, *, names: bool = False) -> Any:
    """A schema without its words. `names`: the keys are names of properties or definitions, not keywords."""
    if isinstance(schema, dict):
        return {
            key: without_words(value, names=not names and key in ("properties", "$defs"))
            for key, value in schema.items()
            if names or key not in WORDS
        }
    return [without_words(each) for each in schema] if isinstance(schema, list) else schema


def main() -> None:
    """The command; see the module's docstring."""
    if "--write" in sys.argv[1:]:
        write_new()
    problems = differences()
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

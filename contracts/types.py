"""The catalogue of event types: which there are, and what each means to the read models (docs/decisions/0035).

The composition root of each process reads it once and passes it on. `event_types.toml` beside this file is the shipped
one; `EVENT_TYPES_FILE` names another, which replaces it. Records that are in the log already are read whatever their
type: the catalogue decides what commands may say, and what events mean.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args

import msgspec

Meaning = Literal["opens_session", "closes_session", "views_product", "nothing"]
MEANINGS: tuple[str, ...] = get_args(Meaning)

# What a name says by itself: in rows of the read model that say nothing else, and in documents of versions 1 and 2. It
# never changes; `event_types.toml` says the same.
AS_NAMED: dict[str, tuple[Meaning, str | None]] = {
    "LOGIN": ("opens_session", None),
    "LOGOUT": ("closes_session", None),
    "PRODUCT_VIEW": ("views_product", "productId"),
}
FIRST_TYPES = tuple(AS_NAMED)
SHIPPED_FILE = Path(__file__).parent / "event_types.toml"
MAX_TYPES = 100
MAX_NAME_LENGTH = 64  # characters
NAME_RULE = f"1 to {MAX_NAME_LENGTH} capital letters, digits and `_`, beginning with a letter"
DIGEST_LENGTH = 12  # hexadecimal digits

KEYS = ("description", "means", "product", "personal", "payload_schema")

MAX_PRODUCT_ID_LENGTH = 256  # characters
has_control_character = re.compile(r"[\u0000-\u001f\u007f-\u009f]").search

is_type_name = re.compile(rf"[A-Z][A-Z0-9_]{{0,{MAX_NAME_LENGTH - 1}}}").fullmatch


class EventType(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One type of event. `product`: the payload field that names the product which is viewed.

    `payload_schema`: a JSON Schema that commands must satisfy. `personal`: payload fields that logs mask.
    """

    name: str
    description: str
    means: Meaning = "nothing"
    product: str | None = None
    personal: tuple[str, ...] = ()
    payload_schema: dict[str, Any] | None = None


class CatalogueError(Exception):
    """The catalogue is not usable. The text names the file and every problem, one a line."""

    def __init__(self, file: Path, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"the catalogue of event types {file} is not usable:\n{lines}")


class Catalogue(msgspec.Struct, frozen=True):
    """The event types of a deployment, in the order of their file.

    `digest` is the same for two catalogues only if they say the same of every type, but for descriptions.
    """

    types: tuple[EventType, ...]
    digest: str
    is_shipped: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the types."""
        return tuple(each.name for each in self.types)

    @property
    def personal_fields(self) -> frozenset[str]:
        """Names of payload fields that hold personal data."""
        return frozenset(field for each in self.types for field in each.personal)

    @property
    def product_fields(self) -> dict[str, str]:
        """The payload field that names the product, by the name of the type; also of shipped types not declared."""
        named = {name: field for name, (_, field) in AS_NAMED.items()} | {
            each.name: each.product for each in self.types
        }
        return {name: field for name, field in named.items() if field}

    @property
    def declares_views(self) -> bool:
        """Whether a product may be viewed otherwise than the names of the shipped types say."""
        views = {each.name: each.product for each in self.types if each.means == "views_product"}
        return views != {name: field for name, (_, field) in AS_NAMED.items() if field is not None}

    def words(self, others: Iterable[str] = ()) -> str:
        """What a health detail says of these types, and of the digests that other processes tell.

        Empty when they are the shipped types, and everybody else has them too.
        """
        differing = sorted(set(others) - {self.digest})
        if differing:
            return f"event types {self.digest}, while projectors have {', '.join(differing)}"
        return "" if self.is_shipped else f"event types {self.digest}"


def is_product(value: object) -> TypeGuard[str]:
    """Whether a field's value names a product: 1 to 256 characters without control characters (Unicode category Cc)."""
    if type(value) is not str or not 0 < len(value) <= MAX_PRODUCT_ID_LENGTH:
        return False
    return value.isprintable() if value.isascii() else has_control_character(value) is None


def is_named(file: Path | None) -> bool:
    """Whether a setting names a file. An empty variable gives an empty path, which names none."""
    return file is not None and file != Path()


def read_catalogue(file: Path | None = None) -> Catalogue:
    """Reads the catalogue of this file, or the shipped one if none is named.

    Raises:
        CatalogueError: the file cannot be read, or says something that is not valid.
    """
    shipped = _read(SHIPPED_FILE)
    types = _read(file) if file is not None and is_named(file) else shipped
    digest = _digest(types)
    return Catalogue(types, digest, is_shipped=digest == _digest(shipped))


def rendered(catalogue: Catalogue) -> bytes:
    """The catalogue as JSON, as it is served."""
    document = {"digest": catalogue.digest, "types": catalogue.types}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _digest(types: Iterable[EventType]) -> str:
    told = [msgspec.to_builtins(msgspec.structs.replace(each, description="")) for each in types]
    told.sort(key=lambda each: str(each["name"]))
    return sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()[:DIGEST_LENGTH]


def _read(file: Path) -> tuple[EventType, ...]:
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise CatalogueError(file, [f"The file cannot be read: {error.strerror or type(error).__name__}."]) from None
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, an endless number, or nested for ever
        raise CatalogueError(file, [f"The file is not valid TOML: {error}."]) from None
    problems = [] if 0 < len(tables) <= MAX_TYPES else [f"It must declare 1 to {MAX_TYPES} types."]
    for name, table in tables.items():
        problems += _problems(name, table)
    if problems:
        raise CatalogueError(file, problems)
    return tuple(msgspec.convert({"name": name, **_camel(table)}, EventType) for name, table in tables.items())


def _camel(table: Mapping[str, Any]) -> dict[str, Any]:
    return {"payloadSchema" if key == "payload_schema" else key: value for key, value in table.items()}


def _problems(name: str, table: object) -> list[str]:
    """A sentence for everything that is wrong with one type."""
    found = [] if is_type_name(name) else [f"[{name}]: a name is {NAME_RULE}."]
    if not isinstance(table, dict):
        return [*found, f"[{name}]: this is no table of keys."]
    say = partial("[{}]: {}".format, name)
    found += [say(f"key `{key}` is unknown; the keys are {', '.join(KEYS)}.") for key in table if key not in KEYS]
    if not _is_text(table.get("description")):
        found.append(say("`description` is required: one sentence that says what the user does."))
    means = table.get("means", "nothing")
    if means not in MEANINGS:
        found.append(say(f"`means` must be one of {', '.join(MEANINGS)}."))
    if means == "views_product" and not _is_text(table.get("product")):
        found.append(say("`product` is required: the payload field that names the product."))
    if means != "views_product" and "product" in table:
        found.append(say('`product` belongs to `means = "views_product"` only.'))
    personal = table.get("personal", [])
    if not isinstance(personal, list) or not all(map(_is_text, personal)):
        found.append(say("`personal` must be a list of names of payload fields."))
    return found + [say(sentence) for sentence in _schema_problems(table.get("payload_schema", {}))]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _schema_problems(schema: object) -> list[str]:
    if not isinstance(schema, dict):
        return ["`payload_schema` must be a table: a JSON Schema."]
    if not schema:
        return []
    from contracts.validation.payload_schemas import schema_problem  # noqa: PLC0415 - only where there is a schema

    problem = schema_problem(schema)
    return [] if problem is None else [f"`payload_schema` is no valid JSON Schema: {problem}."]

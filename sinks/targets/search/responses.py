"""Reads what Elasticsearch and OpenSearch answer, and blames nobody wrongly: a record last."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from projector.writing.failure import OutsideError
from sinks.target import DocumentRefusedError, TargetAwayError, TargetRefusesError, TooMuchError

CONFLICT = 409
# Errors of one document. Any other, and any that nobody knows, is the server's.
OF_DOCUMENTS = frozenset(
    {"mapper_parsing_exception", "document_parsing_exception", "illegal_argument_exception", "parse_exception"}
)
TOO_LARGE = 413
AWAY = frozenset({408, 429, 500, 502, 503, 504})


class ItemError(msgspec.Struct):
    """Why one item of a bulk failed. Its reason may quote the document, so nobody repeats it."""

    type: str = ""


class Item(msgspec.Struct):
    """What became of one document."""

    status: int
    error: ItemError | None = None
    index: str = msgspec.field(default="", name="_index")


class Bulk(msgspec.Struct):
    """The answer to a bulk: one item for each document, in order."""

    items: Sequence[Mapping[str, Item]]


class Index(msgspec.Struct):
    """One of the indices behind a stream. An index that is made anew, or restored, has another uuid."""

    name: str = msgspec.field(name="index_name")
    uuid: str = msgspec.field(default="", name="index_uuid")


class Stream(msgspec.Struct):
    """A data stream."""

    name: str
    indices: Sequence[Index]


class Streams(msgspec.Struct):
    """The answer to a question about data streams. Without the field it is an answer to something else."""

    data_streams: Sequence[Stream]


_decode = msgspec.json.Decoder(Bulk).decode


def told(body: bytes) -> dict[str, Any]:
    """Returns what a server told, an object. Raises TargetAwayError for anything else, such as a proxy's page."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise TargetAwayError("The server's answer is no JSON object.")
    return found


def streams_of(body: bytes) -> dict[str, Sequence[Index]]:
    """Returns the indices of each stream. Raises TargetAwayError for an answer that does not tell of streams."""
    try:
        return {stream.name: stream.indices for stream in msgspec.json.decode(body, type=Streams).data_streams}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TargetAwayError("The server does not tell which streams it has.") from error


def whole(body: bytes) -> dict[str, Any]:
    """Returns what a server told of all its shards. Raises TargetAwayError if some of them said nothing."""
    found = told(body)
    if found.get("_shards", {}).get("failed") or found.get("timed_out"):
        raise TargetAwayError("Not every shard answered.")
    return found


def known_documents(body: bytes, count: int) -> list[Any]:
    """Returns what is known of each document of a multi-get. Raises TargetAwayError if of some nobody knows."""
    found = told(body).get("docs", [])
    if len(found) != count or any("error" in each for each in found):
        raise TargetAwayError("The server does not know of every document whether it has it.")
    return list(found)


def checked_items(answer: bytes, count: int) -> list[Item]:
    """Returns what became of each document of a bulk: it was created, or was there before (`CONFLICT`).

    Raises:
        DocumentRefusedError: One is refused for what it is.
        TargetAwayError: Some were not taken now, for whatever reason that is not theirs.
        TargetRefusesError: The server refuses some for a reason that is not theirs, or answers something else.
    """
    try:
        found = [item for each in _decode(answer).items for item in each.values()]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TargetAwayError("The server's answer to a bulk is none.") from error
    if len(found) != count:
        raise TargetAwayError(f"The server told of {len(found)} documents of {count}.")
    failed = [item for item in found if item.status >= 300 and item.status != CONFLICT]
    if failed:
        raise max((_error_of(item) for item in failed), key=_weight)
    return found


def _error_of(item: Item) -> OutsideError:
    name = item.error.type if item.error is not None else ""
    words = f"{item.status} {name}".strip()
    if item.status == 400 and name in OF_DOCUMENTS:
        return DocumentRefusedError(f"The server refuses the document: {words}")
    return error_of(item.status, words)


def error_of(status: int, words: str) -> OutsideError:
    """Returns the error that a status stands for."""
    if status == TOO_LARGE:
        return TooMuchError(f"The server takes no request of this size: {words}")
    if status in AWAY:
        return TargetAwayError(f"The server does not take it now: {words}")
    return TargetRefusesError(f"The server refuses: {words}")


def _weight(error: OutsideError) -> int:
    """A server that fails some documents is to be waited for, before any document is blamed."""
    kinds = (DocumentRefusedError, TooMuchError, TargetRefusesError, TargetAwayError)
    return kinds.index(type(error))


def checked(status: int, body: bytes) -> bytes:
    """Returns the body of an answer that is well. Raises OutsideError for another."""
    if status < 300:
        return body
    raise error_of(status, f"{status} {_type_of(body)}".strip())


def _type_of(body: bytes) -> str:
    """Returns the type of an error, which quotes nothing."""
    try:
        return str(told(body)["error"]["type"])[:100]
    except (TargetAwayError, KeyError, TypeError):
        return ""

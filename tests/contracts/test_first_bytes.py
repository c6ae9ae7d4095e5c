"""Bytes that are no JSON are named where their beginning shows what they are, in a POST and in a record alike."""

import gzip
import json
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_side.batch_items import items_of
from contracts.record import from_value
from contracts.validation.first_bytes import beginning_of
from contracts.validation.rules import Problems
from tests.shipped_types import validate_user_event

COMMAND = {"userId": "user-1", "eventType": "LOGIN"}
JSON = json.dumps(COMMAND).encode()
AVRO = b"\x0cuser-1\x00\x02"  # a text and an enumeration, as Avro writes them
NO_JSON = "no JSON (Avro or Protobuf, perhaps)"
PROTOBUF = b"\x0a\x06user-1\x10\x01"

NAMED = {
    "a byte order mark": (b"\xef\xbb\xbf" + JSON, "a byte order mark (EF BB BF)"),
    "UTF-16 with its mark": (JSON.decode().encode("utf-16"), "the byte order mark of UTF-16"),
    "UTF-16 of a big-endian machine": (JSON.decode().encode("utf-16-be"), "text in UTF-16"),
    "UTF-16 without a mark": (JSON.decode().encode("utf-16-le"), "text in UTF-16"),
    "UTF-32 with its mark": (JSON.decode().encode("utf-32"), "the byte order mark of UTF-32"),
    "UTF-32 without a mark": (JSON.decode().encode("utf-32-be"), "text in UTF-32"),
    "gzip": (gzip.compress(JSON), "the first bytes of gzip (1F 8B)"),
    "zlib": (zlib.compress(JSON), "the first bytes of zlib (deflate)"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04\x00", "the first bytes of zstd"),
    "a schema registry's Avro": (
        struct.pack(">bI", 0, 100_001) + AVRO,
        f"the magic byte 0 of Confluent's Schema Registry and schema id 100001, before {NO_JSON}",
    ),
    "a single Avro object": (b"\xc3\x01" + b"fingerpr" + AVRO, "the marker of a single Avro object (C3 01)"),
    "an Avro file": (b"Obj\x01" + AVRO, "the first bytes of an Avro file"),
    "Protobuf": (PROTOBUF, "what looks like Protobuf"),
    "MessagePack": (b"\x82\xa6userId\xa6user-1", "what looks like MessagePack"),
    "CBOR": (b"\xa2\x66userId\x66user-1", "what looks like CBOR"),
    "XML": (b"<?xml version='1.0'?><event/>", "`<`, as XML and HTML do"),
}


@pytest.mark.parametrize(("raw", "what"), NAMED.values(), ids=NAMED)
def test_what_the_first_bytes_show_is_named(raw: bytes, what: str) -> None:
    sentence = f"The JSON is not valid: it begins with {what}; it must be plain JSON in UTF-8."
    assert validate_user_event(raw) == from_value(raw) == Problems([sentence])
    if raw[:1] not in b"\n{":  # a batch sees first that it is no array
        assert items_of(raw, lines=False) == Problems([sentence])


def test_a_schema_registrys_frame_is_named_in_a_post_and_read_in_a_record() -> None:
    raw = struct.pack(">bI", 0, 7) + JSON
    what = "the magic byte 0 of Confluent's Schema Registry and schema id 7, before JSON"
    sentence = f"The JSON is not valid: it begins with {what}; it must be plain JSON in UTF-8."
    assert validate_user_event(raw) == items_of(raw, lines=False) == Problems([sentence])
    assert from_value(raw) == from_value(JSON)


@pytest.mark.parametrize("raw", [json.dumps(JSON.decode()).encode(), json.dumps(f" [{JSON.decode()}]").encode()])
def test_json_within_a_string_was_encoded_twice(raw: bytes) -> None:
    assert validate_user_event(raw) == Problems(
        ["The JSON must be an object; it is a string that holds JSON, so it was encoded twice."]
    )


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_never_looks_like_anything_else(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1), f"\n\n\t {json.dumps(value)}\r\n"):
        assert beginning_of(text.encode("utf-8", "surrogatepass")) is None


@given(st.binary())
def test_any_bytes_have_a_diagnosis(raw: bytes) -> None:
    found = from_value(raw)
    assert isinstance(found, Problems)
    assert all(len(sentence) < 200 for sentence in found.sentences)

"""The one place where aiokafka is reached into: it must be there, do what it says, and yield where it is not."""

import gzip
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiokafka.codec import zstd_decode
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from command_side.publishing import quick_codecs
from command_side.publishing.quick_codecs import BUILDERS, gzip_encode, use_quick_codecs, zstd_encode

TEXT = b'{"eventType":"LOGIN","payload":{"ip":"10.0.0.1"}}' * 500
GZIP, ZSTD = 1, 4  # as Kafka's batches name them
CODECS = ("gzip_encode", "zstd_encode")
Codec = tuple[Callable[..., bytes], Callable[[bytes], bytes]]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    modules: list[Any] = [importlib.import_module(name) for name in BUILDERS]
    kept = [(module, name, getattr(module, name)) for module in modules for name in CODECS]
    yield
    for module, name, function in kept:
        setattr(module, name, function)


@pytest.fixture(params=[(gzip_encode, gzip.decompress), (zstd_encode, zstd_decode)])
def codec(request: pytest.FixtureRequest) -> Codec:
    found: Codec = request.param
    return found


def test_it_is_what_it_says(codec: Codec) -> None:
    encode, decode = codec
    assert decode(encode(bytearray(TEXT))) == TEXT
    assert len(encode(TEXT, 9)) <= len(encode(TEXT))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 300, 511, 512, 513, 1_023, 1_024, 2_000])
def test_what_is_small_is_so_all_the_same(codec: Codec, size: int) -> None:
    encode, decode = codec
    assert decode(encode(bytearray(TEXT[:size]))) == TEXT[:size]
    assert (len(encode(TEXT[:size])) < size) == (size >= 1_024)


def built(value: bytes, codec: int) -> bytes:
    batch = BatchBuilder(100_000, codec)
    batch.append(timestamp=1, key=b"k", value=value)
    return bytes(batch._build())


@pytest.mark.parametrize(("codec", "name"), [(GZIP, "gzip_encode"), (ZSTD, "zstd_encode")])
def test_aiokafkas_own_builder_uses_it_and_kafka_clients_read_it(
    monkeypatch: pytest.MonkeyPatch, codec: int, name: str
) -> None:
    used: list[int] = []
    ours = getattr(quick_codecs, name)

    def watched(payload: bytes) -> bytes:
        used.append(len(payload))
        return bytes(ours(payload))

    monkeypatch.setattr(quick_codecs, name, watched)
    assert use_quick_codecs()
    for value in (TEXT, b"small"):
        buffer = built(value, codec)
        assert used
        assert [record.value for record in MemoryRecords(buffer).next_batch()] == [value]


def test_another_release_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [getattr(importlib.import_module(BUILDERS[0]), name) for name in CODECS]
    monkeypatch.setattr(quick_codecs, "version", lambda _: "0.15.0")
    assert not use_quick_codecs()
    assert [getattr(importlib.import_module(BUILDERS[0]), name) for name in CODECS] == before

"""The one place where aiokafka is reached into: it must be there, do what it says, and yield where it is not."""

import gzip
import importlib
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from command_side.publishing import quick_gzip
from command_side.publishing.quick_gzip import BUILDERS, gzip_encode, use_quick_gzip

TEXT = b'{"eventType":"LOGIN","payload":{"ip":"10.0.0.1"}}' * 500


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    modules: list[Any] = [importlib.import_module(name) for name in BUILDERS]
    kept = [module.gzip_encode for module in modules]
    yield
    for module, function in zip(modules, kept, strict=True):
        module.gzip_encode = function


def test_it_is_gzip() -> None:
    assert gzip.decompress(gzip_encode(bytearray(TEXT))) == TEXT
    assert len(gzip_encode(TEXT, 9)) <= len(gzip_encode(TEXT))


@pytest.mark.parametrize("size", [0, 1, 300, 511, 512, 513, 1_023, 1_024, 2_000])
def test_what_is_small_is_gzip_all_the_same(size: int) -> None:
    assert gzip.decompress(gzip_encode(bytearray(TEXT[:size]))) == TEXT[:size]
    assert (len(gzip_encode(TEXT[:size])) < size) == (size >= 1_024)


def built(value: bytes) -> bytes:
    batch = BatchBuilder(100_000, 1)
    batch.append(timestamp=1, key=b"k", value=value)
    return bytes(batch._build())


def test_aiokafkas_own_builder_uses_it_and_kafka_clients_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []

    def watched(payload: bytes) -> bytes:
        used.append(len(payload))
        return gzip_encode(payload)

    monkeypatch.setattr(quick_gzip, "gzip_encode", watched)
    assert use_quick_gzip()
    for value in (TEXT, b"small"):
        buffer = built(value)
        assert used
        assert [record.value for record in MemoryRecords(buffer).next_batch()] == [value]


def test_another_release_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    before = importlib.import_module(BUILDERS[0]).gzip_encode
    monkeypatch.setattr(quick_gzip, "version", lambda _: "0.15.0")
    assert not use_quick_gzip()
    assert importlib.import_module(BUILDERS[0]).gzip_encode is before

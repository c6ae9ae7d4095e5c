"""Files of records: Parquet, compressed by zstd, with the bytes of each record as Kafka has them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from aiokafka.structs import ConsumerRecord

from operations.archive.files.digests import digest_of_all
from operations.archive.files.entries import Block

BLOCK_RECORDS = 10_000  # in one row group: what is read at once, and what a flipped bit is narrowed down to
BLOCK_BYTES = 16 * 1024 * 1024  # of keys and values in one row group, about

UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)  # what a file raises that has other bytes

HEADER = pa.struct([pa.field("name", pa.string(), nullable=False), pa.field("value", pa.binary())])
SCHEMA = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("timestamp_type", pa.int8(), nullable=False),  # 0: the producer's; 1: the broker's
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", pa.list_(pa.field("element", HEADER, nullable=False)), nullable=False),
    ]
)


class RecordFile:
    """A file that is being written, block by block."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(
            path,
            SCHEMA,
            compression="zstd",
            compression_level=6,
            use_dictionary=["key"],
            column_encoding={"offset": "DELTA_BINARY_PACKED", "timestamp": "DELTA_BINARY_PACKED"},
            write_page_checksum=True,
        )
        self._waiting: list[ConsumerRecord] = []
        self._size = 0
        self.blocks: list[Block] = []
        self.bytes = 0  # of keys and values

    def add(self, record: ConsumerRecord) -> None:
        """Adds one record."""
        size = len(record.key or b"") + len(record.value or b"")
        self._waiting.append(record)
        self._size += size
        self.bytes += size
        if len(self._waiting) >= BLOCK_RECORDS or self._size >= BLOCK_BYTES:
            self._flush()

    def close(self) -> None:
        """Writes the last block and the end of the file."""
        if self._waiting:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        records, self._waiting, self._size = self._waiting, [], 0
        batch = _batch(records)
        self._writer.write_batch(batch, row_group_size=batch.num_rows)
        self.blocks.append(Block(records[0].offset, records[-1].offset, len(records), digest_of_all(records)))


def _batch(records: Sequence[ConsumerRecord]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [
            pa.array([record.partition for record in records], pa.int32()),
            pa.array([record.offset for record in records], pa.int64()),
            pa.array([record.timestamp for record in records], pa.int64()).cast(SCHEMA.field("timestamp").type),
            pa.array([record.timestamp_type for record in records], pa.int8()),
            pa.array([record.key for record in records], pa.binary()),
            pa.array([record.value for record in records], pa.binary()),
            _headers(records),
        ],
        schema=SCHEMA,
    )


def _headers(records: Sequence[ConsumerRecord]) -> pa.Array:
    starts = [0]
    for record in records:
        starts.append(starts[-1] + len(record.headers))
    flat = [header for record in records for header in record.headers]
    structs = pa.StructArray.from_arrays(
        [pa.array([name for name, _ in flat], pa.string()), pa.array([value for _, value in flat], pa.binary())],
        fields=list(HEADER),
    )
    return pa.ListArray.from_arrays(pa.array(starts, pa.int32()), structs, type=SCHEMA.field("headers").type)


class ReadFile:
    """A file that is read, block by block. Every page's checksum is verified."""

    def __init__(self, file: IO[bytes] | Path, topic: str) -> None:
        """Raises pyarrow.ArrowException if it is no Parquet file."""
        self._file, self._topic = pq.ParquetFile(file, page_checksum_verification=True), topic

    @property
    def blocks(self) -> int:
        """How many blocks it has."""
        found: int = self._file.num_row_groups
        return found

    def block(self, number: int) -> list[ConsumerRecord]:
        """Returns the records of a block. Raises pyarrow.ArrowException or OSError if it cannot be read."""
        return list(_records(self._file.read_row_group(number), self._topic))

    def close(self) -> None:
        """Closes it."""
        self._file.close()


def _records(table: Any, topic: str) -> Iterator[ConsumerRecord]:
    columns = [
        table.column(field.name).cast(pa.int64()).to_pylist() if field.name == "timestamp"
        else table.column(field.name).to_pylist()
        for field in SCHEMA
    ]  # fmt: skip
    for partition, offset, timestamp, kind, key, value, headers in zip(*columns, strict=True):
        yield ConsumerRecord(
            topic=topic,
            partition=partition,
            offset=offset,
            timestamp=timestamp,
            timestamp_type=kind,
            key=key,
            value=value,
            checksum=None,
            serialized_key_size=-1 if key is None else len(key),
            serialized_value_size=-1 if value is None else len(value),
            headers=tuple((header["name"], header["value"]) for header in headers),
        )

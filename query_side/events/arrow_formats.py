"""Events as Arrow and Parquet, written as they come: memory holds one record batch, or one row group."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from query_side.api.negotiation import ARROW, PARQUET
from query_side.events.event_lines import lines_decoder

SCHEMA = pa.schema(
    [
        pa.field("eventId", pa.string(), nullable=False),
        pa.field("userId", pa.string(), nullable=False),
        pa.field("eventType", pa.string(), nullable=False),
        pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("payload", pa.string(), nullable=False, metadata={"content": "application/json"}),
    ]
)


def batch_of(lines: bytes) -> pa.RecordBatch:
    """The events of these lines."""
    events = lines_decoder.decode_lines(lines)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([event.event_id for event in events], pa.string()),
            pa.array([event.user_id for event in events], pa.string()),
            pa.array([event.event_type for event in events], pa.string()),
            pa.array([event.timestamp for event in events], pa.string()).cast(SCHEMA.field("timestamp").type),
            pa.array([bytes(event.payload) for event in events], pa.binary()).cast(pa.string()),
        ],
        schema=SCHEMA,
    )


class Drain(io.RawIOBase):
    """A file that is only written to, and emptied after each write."""

    def __init__(self) -> None:
        super().__init__()
        self._written: list[bytes] = []

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: "bytes | memoryview | pa.Buffer") -> int:
        """Takes all of it."""
        self._written.append(bytes(data))
        return len(self._written[-1])

    def taken(self) -> bytes:
        """What was written since the last time."""
        taken, self._written = b"".join(self._written), []
        return taken


class _Gathering:
    """Gathers lines until there are enough for a batch; a subclass writes it to `self._out`."""

    slow = True
    least_bytes: int

    def __init__(self) -> None:
        self._out = Drain()
        self._lines: list[bytes] = []
        self._size = 0

    def rows(self, lines: bytes) -> bytes:
        """The next batch, once there is enough for one."""
        self._lines.append(lines)
        self._size += len(lines)
        if self._size >= self.least_bytes:
            self._flush()
        return self._out.taken()

    def end(self) -> bytes:
        """The last batch, and what ends the file."""
        if self._lines:
            self._flush()
        self.close()
        return self._out.taken()

    def _flush(self) -> None:
        batch = batch_of(b"".join(self._lines))
        self._lines, self._size = [], 0
        self.write(batch)

    def write(self, batch: pa.RecordBatch) -> None:
        """Writes one batch."""
        raise NotImplementedError

    def close(self) -> None:
        """Writes the end."""
        raise NotImplementedError


class ArrowStream(_Gathering):
    """The Arrow IPC streaming format."""

    content_type = ARROW.encode()
    compressible = True
    least_bytes = 1024 * 1024  # of lines in a record batch

    def __init__(self) -> None:
        super().__init__()
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._out, "w"), SCHEMA)

    def write(self, batch: pa.RecordBatch) -> None:
        """One record batch."""
        self._writer.write_batch(batch)

    def close(self) -> None:
        """The end of the stream."""
        self._writer.close()


class ParquetFile(_Gathering):
    """A Parquet file, written forwards only; compressed inside."""

    content_type = PARQUET.encode()
    compressible = False
    least_bytes = 8 * 1024 * 1024  # of lines in a row group

    def __init__(self) -> None:
        super().__init__()
        self._writer = pq.ParquetWriter(pa.PythonFile(self._out, "w"), SCHEMA, compression="zstd")

    def write(self, batch: pa.RecordBatch) -> None:
        """One row group."""
        self._writer.write_batch(batch, row_group_size=batch.num_rows)

    def close(self) -> None:
        """The footer."""
        self._writer.close()

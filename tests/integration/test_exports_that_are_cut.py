"""An export that ends in the middle does not look whole, whoever ended it and whatever stands in between."""

import gzip
import io
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import Footfall
from tests.drivers.nginx import nginx_before
from tests.patience import PATIENCE
from tests.producing import an_event, produce, record_of, start_projector, wait_until_processed

EVENTS, SIZE = 2_000, 16_000  # 32 MB: more than what is between holds


class Asked(NamedTuple):
    """How one export is asked for. `through`: "nginx" or "nothing"."""

    through: str
    version: str
    form: str
    zipped: bool


ALL = [
    Asked(through, version, form, zipped)
    for through in ("nothing", "nginx")
    for version, form, zipped in (
        ("1.0", "csv", True),
        ("1.0", "parquet", False),
        ("1.1", "ndjson", False),
        ("1.1", "csv", True),
        ("1.1", "arrow", False),
        ("1.1", "parquet", False),
    )
]


@pytest.fixture(scope="module")
def many(shared_footfall: Footfall) -> Footfall:
    produce(
        shared_footfall,
        (
            record_of(an_event(f"u-{n % 40}", {"productId": "p-1", "x": os.urandom(SIZE // 2).hex()}))
            for n in range(EVENTS)
        ),
    )
    start_projector(shared_footfall)
    wait_until_processed(shared_footfall, EVENTS, PATIENCE)
    return shared_footfall


@contextmanager
def asked(url: str, how: Asked) -> Iterator[socket.socket]:
    """A client that reads slowly, once it has the first bytes."""
    address = urlsplit(url)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.settimeout(PATIENCE)
        connection.connect((address.hostname or "", address.port or 0))
        coding = "gzip" if how.zipped else "identity"
        connection.sendall(
            f"GET /events/processed?format={how.form} HTTP/{how.version}\r\nHost: here\r\n"
            f"Accept-Encoding: {coding}\r\n\r\n".encode()
        )
        assert connection.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL)[9:12] == b"200"
        yield connection


def rest(connection: socket.socket, how: Asked) -> tuple[bytes, bool]:
    """The body, and whether HTTP says that it is all of it."""
    received, reset = b"", False
    try:
        while piece := connection.recv(1 << 20):
            received += piece
    except ConnectionResetError:
        reset = True
    head, _, body = received.partition(b"\r\n\r\n")
    assert (b"chunked" in head.lower()) is (how.version == "1.1")
    if how.version == "1.1":
        return unchunked(body), body.endswith(b"\r\n0\r\n\r\n")
    return body, not reset


chunk_head = re.compile(rb"([0-9a-fA-F]+)\r\n").match


def unchunked(body: bytes) -> bytes:
    found, at = bytearray(), 0
    while head := chunk_head(body, at):
        size = int(head[1], 16)
        found += body[head.end() : head.end() + size]
        at = head.end() + size + 2
    return bytes(found)


def events_in(how: Asked, body: bytes) -> int:
    """How many events a reader of the format finds; 0: it finds that the body is not whole."""
    try:
        plain = gzip.decompress(body) if how.zipped else body
        if how.form == "parquet":
            return int(pq.read_table(io.BytesIO(plain)).num_rows)
        if how.form == "arrow":
            return int(pa.ipc.open_stream(plain).read_all().num_rows)
    except (EOFError, pa.ArrowInvalid):
        return 0
    return plain.count(b"\n") - (how.form == "csv")


@pytest.mark.parametrize("how_it_ends", [signal.SIGKILL, signal.SIGTERM])
def test_a_client_can_tell_an_export_that_is_cut(many: Footfall, tmp_path: Path, how_it_ends: int) -> None:
    """Over HTTP/1.0, which has no chunks, the format must tell: Parquet's footer, or the end of gzip."""
    side = many.start("query-side", MAX_EXPORTS="40", PRINCIPAL_SHARE_PERCENT="100", EXPORT_PACE_MS="120000")
    with nginx_before(side.url, tmp_path) as nginx, ExitStack() as stack:
        urls = {"nothing": side.url, "nginx": nginx}
        clients = {how: stack.enter_context(asked(urls[how.through], how)) for how in ALL}
        side.popen.send_signal(how_it_ends)
        for how, client in clients.items():
            body, whole = rest(client, how)
            told_by_http = how.version == "1.1" or (how.through == "nothing" and how_it_ends == signal.SIGTERM)
            if not told_by_http:
                assert events_in(how, body) in (0, EVENTS), how
            elif whole:
                assert events_in(how, body) == EVENTS, how
        side.popen.wait(PATIENCE)

"""Head and body in one write, and never a byte lost or late that was not asked to wait."""

import asyncio
from typing import Any, cast

from web.protocol.joined_writes import JoinedWrites


class Recorded:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def get_extra_info(self, name: str) -> str:
        return name


def pair() -> tuple[JoinedWrites, Recorded]:
    inner = Recorded()
    return JoinedWrites(cast(asyncio.Transport, cast(Any, inner))), inner


def test_what_nobody_asked_to_hold_leaves_at_once() -> None:
    joined, inner = pair()
    joined.write(b"head\r\n\r\n")
    joined.write(b"body")
    assert inner.written == [b"head\r\n\r\n", b"body"]


def test_a_held_head_leaves_with_its_body_and_the_further_headers() -> None:
    joined, inner = pair()
    for _ in range(2):
        joined.hold(b"x: y\r\n")
        joined.write(b"HTTP/1.1 201 Created\r\na: b\r\n\r\n")
        assert inner.written == []
        joined.write(b"{}")
        assert inner.written == [b"HTTP/1.1 201 Created\r\na: b\r\nx: y\r\n\r\n{}"]
        inner.written.clear()


def test_a_held_head_without_a_body_leaves_before_the_end() -> None:
    joined, inner = pair()
    joined.hold(b"")
    joined.write(b"HTTP/1.1 201 Created\r\n\r\n")
    assert not joined.is_closing()
    joined.close()
    assert (inner.written, inner.closed, joined.is_closing()) == ([b"HTTP/1.1 201 Created\r\n\r\n"], True, True)


def test_everything_else_is_the_transports() -> None:
    joined, _ = pair()
    assert joined.get_extra_info("peername") == "peername"

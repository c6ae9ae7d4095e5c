"""Requests are cut where their heads and bodies end, wherever the network cut them."""

import pytest
from httptools import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from web.protocol.request_framing import END, RequestCuts

HEAD = b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"
BODY = b"\r\n\r\n\r\n\r\n."
MOST = 1_000


def test_a_head_gets_no_more_than_its_bound() -> None:
    cuts = RequestCuts()
    assert cuts.take(b"x" * 30, 0, 40) == 30
    assert cuts.take(b"x" * 50, 0, 40) == 10
    assert cuts.unsettled == 40


def test_a_body_in_chunks_is_cut_where_it_may_end_and_what_follows_is_measured() -> None:
    cuts, sent = RequestCuts(), b"1\r\na\r\n0\r\n\r\nGET"
    cuts.head_ended(0, in_chunks=True)
    assert cuts.in_chunks
    end = cuts.take(sent, 0, MOST)
    assert sent[end:] == b"GET"
    cuts.request_ended()
    assert cuts.take(sent, end, MOST) == len(sent)
    assert (cuts.in_chunks, cuts.unsettled) == (False, 3)


class Parsing:
    """A parser before `RequestCuts`, as a connection has it, and what it has seen."""

    def __init__(self) -> None:
        self.cuts, self.parser, self.requests = RequestCuts(), HttpRequestParser(self), 0
        self.wholes: list[bool] = []

    def receive(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            end = self.cuts.take(data, start, MOST)
            self.parser.feed_data(data[start:end])
            if self.cuts.only_head:
                self.cuts.settle(data, end - start)
            start = end

    def on_message_begin(self) -> None:
        self.length, self.in_chunks = 0, False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.length = int(value) if name == b"Content-Length" else self.length
        self.in_chunks = self.in_chunks or name == b"Transfer-Encoding"

    def on_headers_complete(self) -> None:
        self.cuts.head_ended(self.length, in_chunks=self.in_chunks)

    def on_body(self, body: bytes) -> None:
        self.cuts.unsettled = 0

    def on_message_complete(self) -> None:
        self.wholes.append(self.cuts.is_whole)
        self.requests += 1
        self.cuts.request_ended()


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKS = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\n\r\n.\r\n0\r\n\r\n"
KINDS = [(GET, b""), (HEAD, BODY), (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", b"plain"), CHUNKS]


@pytest.mark.parametrize("cut", range(2 * len(HEAD + BODY) + 1))
def test_two_requests_are_cut_where_they_end_and_their_heads_are_measured(cut: int) -> None:
    sent, parsing = 2 * (HEAD + BODY), Parsing()
    parsing.receive(sent[:cut])
    assert parsing.cuts.unsettled == unsettled_at([(HEAD, BODY), (HEAD, BODY)], cut)
    parsing.receive(sent[cut:])
    assert (parsing.requests, parsing.cuts.unsettled) == (2, 0)


@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5), st.lists(st.integers(0, 250), max_size=12))
def test_however_requests_arrive_each_head_is_measured_by_its_own_bytes(
    requests: list[tuple[bytes, bytes]], at: list[int]
) -> None:
    sent = b"".join(head + body for head, body in requests)
    ends = [*sorted({min(cut, len(sent)) for cut in at}), len(sent)]
    parsing, begin = Parsing(), 0
    for end in ends:
        parsing.receive(sent[begin:end])
        begin = end
        expected = unsettled_at(requests, end)
        if expected is not None:
            assert parsing.cuts.unsettled == expected
    assert (parsing.requests, parsing.cuts.unsettled, parsing.cuts.in_chunks) == (len(requests), 0, False)


def unsettled_at(requests: list[tuple[bytes, bytes]], end: int) -> int | None:
    """Bytes of the head that `end` is in, 0 within a body; None within chunks, which count from piece to piece."""
    for head, body in requests:
        if end < len(head):
            return end
        if end < len(head) + len(body):
            return None if b"chunked" in head else 0
        end -= len(head) + len(body)
    return end


@pytest.mark.parametrize(("head", "body"), KINDS)
def test_a_request_that_arrives_alone_is_known_to_be_whole(head: bytes, body: bytes) -> None:
    for first, second, whole in (
        (head + body, b"", b"chunked" not in head and END not in body),
        ((head + body)[:9], (head + body)[9:], False),
        (head + body, GET[:7], b"chunked" not in head and END not in body),
    ):
        parsing = Parsing()
        parsing.receive(first)
        parsing.receive(second)
        assert parsing.wholes == [whole], (first, second)
    parsing = Parsing()
    parsing.receive(head + body + GET[:7])
    assert parsing.wholes == [False]
    assert parsing.cuts.unsettled == 7

"""Requests are cut where their heads and bodies end, wherever the network cut them."""

import pytest

from web.protocol.request_framing import RequestCuts

HEAD = b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"
BODY = b"\r\n\r\n\r\n\r\n."
MOST = 1_000


def fed(chunks: list[bytes], most: int = MOST) -> list[bytes]:
    """What a parser would get, and the heads that it would see end."""
    cuts, pieces, head = RequestCuts(), [], b""
    for data in chunks:
        start = 0
        while start < len(data):
            end = cuts.take(data, start, most)
            pieces.append(data[start:end])
            head += data[start:end]
            if head == HEAD:
                assert cuts.unsettled == len(HEAD)
                cuts.head_ended(9, in_chunks=False)
            elif head == HEAD + BODY:
                cuts.request_ended()
                head = b""
            start = end
    assert head == b""
    return pieces


@pytest.mark.parametrize("cut", range(2 * len(HEAD + BODY) + 1))
def test_two_requests_are_cut_where_they_end_and_their_heads_are_measured(cut: int) -> None:
    sent = 2 * (HEAD + BODY)
    assert b"".join(fed([sent[:cut], sent[cut:]])) == sent


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

"""Where one request ends and the next begins: pipelines, smuggling, lengths that lie, wherever the packets were cut."""

import socket
from contextlib import suppress

import httpx
import pytest

from tests.conftest import Footfall
from tests.framing import AFTER, AFTER_ID, Conversation, Turn, conversations, cuts_in_two, deviation
from tests.hostile import COMMAND, GENERATE, asked, corpus, served_meanwhile
from tests.patience import PATIENCE
from tests.processes import Process
from tests.topic_reader import records_of
from web.protocol.bounded_http import MAX_HEAD_BYTES

CONVERSATIONS = conversations()
ALL_TAKEN = 6 * 2**20  # what waits in both kernels is far less
STATUS_LINE = b"HTTP/1.1 200 OK"
NULS = ("NUL", "two NULs", "three NULs")


@pytest.fixture(scope="module")
def side(shared_footfall: Footfall) -> Process:
    return shared_footfall.start("command-side")


def sent_in_all(conversation: Conversation) -> str:
    return "".join(part if isinstance(part, str) else part.repeat for turn in conversation.turns for part in turn.sent)


def test_the_conversations_are_many_and_their_names_are_unique() -> None:
    assert len({conversation.name for conversation in CONVERSATIONS}) == len(CONVERSATIONS) >= 150
    assert sum("X-Request-ID: hidden" in sent_in_all(conversation) for conversation in CONVERSATIONS) >= 30
    for end in ("open", "closed", "refused 400"):
        assert sum(conversation.end == end for conversation in CONVERSATIONS) >= 20


@pytest.mark.parametrize("step", [None, 7, 1], ids=["at once", "by 7 bytes", "by 1 byte"])
def test_each_conversation_has_its_answers_in_order_and_its_end(side: Process, step: int | None) -> None:
    with served_meanwhile(side.url):
        found = [deviation(side.url, conversation, step) for conversation in CONVERSATIONS]
    assert [one for one in found if one is not None] == []
    assert httpx.post(side.url + GENERATE, json=COMMAND).status_code == 201
    assert "unforeseen_error" not in side.log_text()
    assert "Traceback" not in side.log_text()


@pytest.mark.parametrize("name", ["two requests at once", *(f"a sound command, then {many}" for many in NULS)])
def test_a_command_has_its_answer_wherever_the_bytes_are_cut_in_two(side: Process, name: str) -> None:
    [conversation] = (one for one in CONVERSATIONS if one.name == name)
    found = [deviation(side.url, cut) for cut in cuts_in_two(conversation)]
    assert len(found) > 100
    assert [one for one in found if one is not None] == []


@pytest.mark.parametrize("step", [7, 1], ids=["by 7 bytes", "by 1 byte"])
def test_a_head_has_its_answer_wherever_it_is_cut(side: Process, step: int) -> None:
    cases = corpus("heads")
    statuses = {case.name: asked(side.url, case.request(GENERATE), step).status for case in cases}
    assert statuses == {case.name: case.status for case in cases}


@pytest.mark.parametrize("size", [MAX_HEAD_BYTES, MAX_HEAD_BYTES + 1], ids=["within", "beyond"])
def test_a_head_is_within_its_bound_or_beyond_it_wherever_its_bytes_were_cut(side: Process, size: int) -> None:
    """What came together with the request before it counts, too."""
    begun, ended = "GET /health/live HTTP/1.1\r\nHost: here\r\nX: ", "\r\n\r\n"
    head = begun + "x" * (size - len(begun) - len(ended)) + ended
    answers = ["200"] if size <= MAX_HEAD_BYTES else []
    cuts = [0, 1, 100, size // 3, size - 2_000, size - 3, size - 2, size - 1, size]
    held = [
        Conversation(
            f"cut at {cut}",
            [Turn([AFTER.decode() + head[:cut]], [f"201 {AFTER_ID}"]), Turn([head[cut:]], answers)],
            "open" if answers else "refused 431",
        )
        for cut in cuts
    ]
    assert [found for one in held if (found := deviation(side.url, one)) is not None] == []


def test_a_request_within_the_body_of_another_is_never_recorded(side: Process, shared_footfall: Footfall) -> None:
    for conversation in CONVERSATIONS:
        if "X-Request-ID: hidden" in sent_in_all(conversation):
            assert deviation(side.url, conversation) is None
    records = records_of(shared_footfall.servers.kafka, shared_footfall.topic)
    found = {dict(record.headers)["request-id"] for record in records}
    assert b"after" in found  # those that the conversations ended with
    assert b"hidden" not in found


def test_a_client_that_pipelines_and_never_reads_is_not_taken_into_memory(side: Process) -> None:
    port = httpx.URL(side.url).port
    request = b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Pad: %b\r\n\r\n" % (b"p" * 450)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.settimeout(2)
        client.connect(("127.0.0.1", port))
        sent = 0
        with suppress(TimeoutError):
            while sent < ALL_TAKEN:
                sent += client.send((request * 200)[sent % len(request) :])
        assert sent < ALL_TAKEN
        client.settimeout(PATIENCE)
        answers, end = 0, b""
        while answers < sent // len(request):  # each of them has its turn once the client reads
            piece = client.recv(65_536)
            assert piece
            received = end + piece
            answers += received.count(STATUS_LINE)
            end = received[1 - len(STATUS_LINE) :]

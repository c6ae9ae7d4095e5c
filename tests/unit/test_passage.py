"""The end of a request's way through the policies: what they hold is given back once, whatever one of them does."""

from web.policies.decisions import ADMIT, Admit, Decision
from web.policies.passage import Passage
from web.policies.request_head import RequestHead

HEAD = RequestHead("GET", "/here", b"/here", b"", [], None, "http")


def test_a_release_that_raises_keeps_nobody_from_giving_back() -> None:
    given_back: list[str] = []

    def holding(name: str) -> Decision:
        return Admit(release=lambda _: given_back.append(name))

    def careless(_: RequestHead) -> Decision:
        return Admit(release=lambda _: given_back.remove("what nobody gave back"))

    passage = Passage(HEAD, [lambda _: holding("first"), careless, lambda _: holding("last")])
    assert passage.proceed() is ADMIT
    passage.end()
    passage.end()
    assert given_back == ["last", "first"]

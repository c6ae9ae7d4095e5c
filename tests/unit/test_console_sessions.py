"""A cookie of the console stands for a key while the key is good, and for nothing that changes data elsewhere."""

from console.sessions import COOKIE, SIGN_IN, Sessions
from web.policies.decisions import ADMIT, Admit, Answer, Decision
from web.policies.identity import NOBODY, UNKNOWN_KIND
from web.policies.principal import AccessScope, Principal
from web.policies.request_head import RequestHead

OPERATOR = Principal("default", "key:1", frozenset(AccessScope))


def head_of(path: str, cookie: str = "", method: str = "GET") -> RequestHead:
    headers = [(b"cookie", f"other=1; {COOKIE}={cookie}".encode())] if cookie else []
    return RequestHead(method, path, path.encode(), b"", headers, None, "http")


class Door:
    """An identity policy that knows one key until it is revoked."""

    revoked = False

    def __call__(self, head: RequestHead) -> Decision:
        shown = dict(head.headers).get(b"authorization")
        if shown is None:
            return Admit(NOBODY)
        return Admit(OPERATOR) if shown == b"Bearer good" and not self.revoked else UNKNOWN_KIND


def test_whoever_is_not_signed_in_is_led_to_the_form() -> None:
    sessions = Sessions(Door(), is_open=False)
    for cookie in ("", "guessed"):
        assert sessions(head_of("/console", cookie)) == Answer(303, ((b"location", SIGN_IN.encode()),))
    assert sessions(head_of(SIGN_IN)) is ADMIT
    assert sessions(head_of("/events/feed")) is ADMIT, "identity refuses it, as for every program"


def test_a_session_shows_its_key_to_the_console_and_to_what_only_reads() -> None:
    sessions = Sessions(Door(), is_open=False)
    name = sessions.open("good")
    for path, method, shows in (
        ("/console/dead-letters/redrive", "POST", True),
        ("/events/stream", "GET", True),
        ("/users/u1", "DELETE", False),
        ("/events/generate", "POST", False),
    ):
        head = head_of(path, name, method)
        assert sessions(head) is ADMIT
        assert ((b"authorization", b"Bearer good") in head.headers) is shows, path


def test_a_revoked_key_ends_its_session_at_once() -> None:
    door = Door()
    sessions = Sessions(door, is_open=False)
    name = sessions.open("good")
    door.revoked = True
    assert isinstance(sessions(head_of("/console", name)), Answer)
    door.revoked = False
    assert isinstance(sessions(head_of("/console", name)), Answer), "it is forgotten, not asleep"


async def test_only_good_credentials_are_admitted_and_a_form_is_bound_to_its_session() -> None:
    sessions = Sessions(Door(), is_open=False)
    assert await sessions.admits(head_of(SIGN_IN), b"good")
    assert not await sessions.admits(head_of(SIGN_IN), b"bad")
    mine, theirs = head_of("/console", sessions.open("good")), head_of("/console", sessions.open("good"))
    assert sessions.is_token(mine, sessions.token(mine))
    assert not sessions.is_token(mine, sessions.token(theirs))
    assert not sessions.is_token(mine, "ü")

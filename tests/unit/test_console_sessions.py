"""A cookie of the console stands for a key while the key is good, and for nothing that changes data elsewhere."""

import base64
import time

import pytest

from console.sessions import COOKIE, ENDED, FORM, LASTS, LONGEST, MOST_OF_ONE, SECURE_COOKIE, SIGN_IN, Sessions
from tests.drivers.identity import OPERATOR, OneKey
from tests.drivers.keys import HandMadeRegister
from web.policies.decisions import ADMIT, Admit, Answer, Decision, Refuse
from web.policies.identity import UNKNOWN_KIND
from web.policies.request_head import RequestHead


def head_of(path: str, cookie: str = "", method: str = "GET", named: str = COOKIE) -> RequestHead:
    headers = [(b"cookie", f"other=1; {named}={cookie}".encode())] if cookie else []
    return RequestHead(method, path, path.encode(), b"", headers, None, "http")


def test_whoever_is_not_signed_in_is_led_to_the_form() -> None:
    sessions = Sessions(OneKey(), is_open=False)
    for cookie in ("", "guessed"):
        assert sessions(head_of("/console", cookie)) == Answer(303, ((b"location", SIGN_IN.encode()),))
    assert sessions(head_of(SIGN_IN)) is ADMIT
    assert sessions(head_of("/events/feed")) is ADMIT, "identity refuses it, as for every program"


def test_a_session_shows_its_key_to_the_console_and_to_what_only_reads() -> None:
    sessions = Sessions(OneKey(), is_open=False)
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
    door = OneKey()
    sessions = Sessions(door, is_open=False)
    name = sessions.open("good")
    door.revoked = True
    assert isinstance(sessions(head_of("/console", name)), Answer)
    door.revoked = False
    assert isinstance(sessions(head_of("/console", name)), Answer), "it is forgotten, not asleep"


async def test_only_good_credentials_are_admitted_and_a_form_is_bound_to_its_session() -> None:
    sessions = Sessions(OneKey(), is_open=False)
    assert await sessions.owner_of(head_of(SIGN_IN), b"good") == OPERATOR
    assert await sessions.owner_of(head_of(SIGN_IN), b"bad") == UNKNOWN_KIND
    mine, theirs = head_of("/console", sessions.open("good")), head_of("/console", sessions.open("good"))
    assert sessions.is_token(mine, sessions.token(mine))
    assert not sessions.is_token(mine, sessions.token(theirs))
    assert not sessions.is_token(mine, "ü")


def is_in(sessions: Sessions, name: str, named: str = COOKIE) -> bool:
    return sessions(head_of("/console", name, named=named)) is ADMIT


def test_a_session_ends_unused_and_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    now, sessions = time.monotonic(), Sessions(OneKey(), is_open=False)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    unused, used = sessions.open("good"), sessions.open("good")
    now += LASTS - 1
    assert is_in(sessions, used)
    now += 2
    assert [is_in(sessions, name) for name in (unused, used)] == [False, True]
    now += LONGEST - LASTS - 2
    assert is_in(sessions, used)
    now += 2
    assert not is_in(sessions, used)
    now -= 2
    assert not is_in(sessions, used), "it is forgotten, not asleep"


def test_a_session_has_a_random_name_of_256_bits_that_only_its_own_cookie_shows() -> None:
    sessions = Sessions(OneKey(), is_open=False)
    names = {sessions.open("good", cookie=SECURE_COOKIE) for _ in range(MOST_OF_ONE)}
    assert len(names) == MOST_OF_ONE
    assert {len(base64.urlsafe_b64decode(f"{name}=")) * 8 for name in names} == {256}
    assert all(is_in(sessions, name, SECURE_COOKIE) for name in names)
    assert not any(is_in(sessions, name) for name in names), "a cookie that a neighbour may set shows none of TLS"
    head = head_of("/console", min(names), named=SECURE_COOKIE)
    head.headers.insert(0, (b"cookie", f"{COOKIE}=planted".encode()))
    assert sessions(head) is ADMIT


def test_one_key_has_so_many_sessions_and_the_one_unused_for_longest_goes() -> None:
    sessions = Sessions(OneKey(), is_open=False)
    first, second = sessions.open("good"), sessions.open("good")
    for _ in range(MOST_OF_ONE - 2):
        sessions.open("good")
    assert is_in(sessions, first)
    sessions.open("good")
    assert [is_in(sessions, name) for name in (first, second)] == [True, False]


async def test_a_real_key_has_an_owner_and_what_it_lacks_is_said() -> None:
    keys = HandMadeRegister()
    sessions = Sessions(keys.identity, is_open=False)
    owner = await sessions.owner_of(head_of(SIGN_IN), keys.key().encode())
    assert not isinstance(owner, Refuse)
    assert owner.subject == "key:k1"
    for key, says in ((keys.key(revoked=True), "revoked"), ("ffs_" + "a" * 43, "not known"), ("nonsense", "no kind")):
        refused = await sessions.owner_of(head_of(SIGN_IN), key.encode())
        assert isinstance(refused, Refuse)
        assert says in refused.error


def test_while_nobody_can_check_the_credentials_a_session_waits() -> None:
    state: Decision = Refuse(503, "away")
    sessions = Sessions(lambda _: state, is_open=False)
    name = sessions.open("good")
    head = head_of("/console", name)
    assert sessions(head) is ADMIT
    assert (b"authorization", b"Bearer good") in head.headers, "identity answers it, with 503"
    state = Admit(OPERATOR)
    assert is_in(sessions, name)
    state = UNKNOWN_KIND
    assert not is_in(sessions, name)
    state = Admit(OPERATOR)
    assert not is_in(sessions, name), "it is forgotten, not asleep"


def test_what_lasts_ends_with_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    now, sessions = time.monotonic(), Sessions(OneKey(), is_open=False)
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def stream_of(name: str) -> RequestHead:
        head = head_of("/events/stream", name)
        assert sessions(head) is ADMIT
        return head

    signed_out, forgotten = sessions.open("good"), sessions.open("good")
    streams = [stream_of(signed_out), stream_of(forgotten)]
    of_a_program = head_of("/events/stream")
    of_a_program.headers.append((b"authorization", b"Bearer good"))
    assert [sessions.lasting(head) for head in (*streams, of_a_program)] == [Admit(OPERATOR)] * 3
    sessions.close(signed_out)
    assert [sessions.lasting(head) for head in streams] == [ENDED, Admit(OPERATOR)]
    now += LASTS + 1
    assert [sessions.lasting(head) for head in streams] == [ENDED, ENDED]
    assert sessions.lasting(of_a_program) == Admit(OPERATOR)


def test_an_open_page_and_a_form_of_a_session_that_has_ended_are_led_to_the_form() -> None:
    sessions = Sessions(OneKey(), is_open=False)
    part = head_of("/console/now", "ended")
    part.headers.append((b"hx-request", b"true"))
    assert sessions(part) == Answer(204, ((b"hx-redirect", SIGN_IN.encode()),)), "the whole page goes there, no part"
    for path, expected in (
        ("/console/dead-letters/discard", Answer(303, ((b"location", SIGN_IN.encode()),))),
        (SIGN_IN, ADMIT),
        ("/console/sign-out", ADMIT),
        ("/events/generate", ADMIT),
    ):
        form = head_of(path, "ended", "POST")
        form.headers.append((b"content-type", FORM))
        assert sessions(form) == expected, path
    assert sessions(head_of("/console/dead-letters/discard", "", "POST")) is ADMIT, "a program is told of credentials"
    assert [sessions.has_ended(head_of(SIGN_IN, name)) for name in ("ended", "", sessions.open("good"))] == [
        *(True, False, False),
    ]

"""Generates a plausible day of traffic from a random seed: logins, product views, logouts."""

import heapq
import random
from collections.abc import Iterator
from typing import Any

import msgspec

DAY = 86_400.0  # seconds
BUSY_HOURS = (12.5, 20.0)  # hours of the day around which sessions begin: lunch and evening
REFERRERS = (
    "https://search.example/?q=shoes",
    "https://news.example/weekend-offers",
    "https://social.example/feed",
    "https://mail.example/newsletter",
)
PRODUCTS = 400
FORGETS_TO_LOG_OUT = 0.25  # share of sessions without a LOGOUT
VIEWS_A_SESSION = 6.0  # product views in a session, on average

_encode = msgspec.json.Encoder().encode


class Activity(msgspec.Struct, frozen=True, order=True):
    """One user action at `second` of the simulated day; `body` is the command as JSON."""

    second: float
    user_id: str
    body: bytes


def a_day_of_traffic(events: int, users: int, seed: int) -> list[Activity]:
    """Returns `events` actions of at most `users` users, in order of time. The same seed gives the same actions."""
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    people = [Person(rng, number) for number in range(1, users + 1)]
    sessions = heapq.merge(*(person.day() for person in people))
    day = [activity for _, activity in zip(range(events), sessions, strict=False)]
    while len(day) < events:  # too few sessions with this seed: some users have further ones
        day += list(people[rng.randrange(len(people))].session(rng.uniform(0, DAY)))
    return sorted(day[:events])


class Person:
    """One simulated user: an IP address, preferred products, a number of sessions."""

    def __init__(self, rng: random.Random, number: int) -> None:
        self._rng = rng
        self._user_id = f"user-{number:05}"
        self._ip = f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
        self._taste = rng.randrange(PRODUCTS)

    def day(self) -> list[Activity]:
        """Returns all actions of this user in order: on average about 6 sessions of about 8 actions."""
        rng = self._rng
        starts = sorted(
            rng.gauss(rng.choice(BUSY_HOURS), 3.0) % 24 * 3600 for _ in range(1 + int(rng.expovariate(0.2)))
        )
        return sorted(activity for start in starts for activity in self.session(start))

    def session(self, start: float) -> Iterator[Activity]:
        """Yields the actions of one session: LOGIN, some views, and usually LOGOUT."""
        rng = self._rng
        second = start
        yield self._activity(second, "LOGIN", {"ip": self._ip, "method": rng.choice(("password", "passkey", "sso"))})
        for _ in range(1 + int(rng.expovariate(1 / VIEWS_A_SESSION))):
            second += rng.expovariate(1 / 40)
            yield self._activity(second, "PRODUCT_VIEW", self._view())
        if rng.random() > FORGETS_TO_LOG_OUT:
            yield self._activity(second + rng.expovariate(1 / 20), "LOGOUT", {})

    def _view(self) -> dict[str, Any]:
        rng = self._rng
        product = int(rng.gauss(self._taste, 15)) % PRODUCTS
        view = {"productId": f"p-{product:04}", "priceCents": 499 + product * 37 % 9000, "ip": self._ip}
        return view | ({"referrer": rng.choice(REFERRERS)} if rng.random() < 0.3 else {})

    def _activity(self, second: float, kind: str, payload: dict[str, Any]) -> Activity:
        body: dict[str, Any] = {"userId": self._user_id, "eventType": kind}
        return Activity(second, self._user_id, _encode(body | ({"payload": payload} if payload else {})))


INVALID_BODIES = (
    b'{"userId":"","eventType":"LOGIN"}',
    b'{"userId":"user-00001"}',
    b'{"userId":"user-00001","eventType":"LOGGED_IN"}',
    b'{"userId":17,"eventType":"LOGIN"}',
    b'{"userId":"user-00001","eventType":"LOGIN","payload":[1,2]}',
    b'{"userId":"user-00001","eventType":"LOGIN","payload":{"note":"\\u0000"}}',
    b'{"userId":"user-00001","eventType":"LOGIN",',
    b"not JSON at all",
)

BROKEN_VALUES = (
    b"\x00\x01\x02 not an event",
    b'{"eventId":"123","userId":"user-00001","eventType":"LOGIN","timestamp":"yesterday","payload":{}}',
    b'{"userId":"user-00001"}',
    b"[]",
    b'{"eventId":"01900000-0000-7000-8000-000000000000","userId":"\xff","eventType":"LOGIN"}',
)

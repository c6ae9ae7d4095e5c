"""The provider's keys in this process: how old they may be, and how often the provider is asked."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from identity.tokens.key_set import KeySet
from identity.tokens.provider import ProviderError
from telemetry.health import DependencyState, trouble_of
from telemetry.logs import get_logger
from telemetry.metrics import TOKEN_KEY_AGE, TOKEN_KEY_FETCHES

FRESH = 300.0  # seconds; whoever uses older keys has them fetched again, and is served by them meanwhile
GRACE = 600.0  # seconds more for which known keys serve; only after both is a withdrawn key surely refused
BETWEEN_FETCHES = 60.0  # seconds at least from one fetch to the next, whoever wants it
WITHOUT_KEYS = 5.0  # as `BETWEEN_FETCHES`, while every token waits for the first key
NEVER = -float("inf")


class KnownKeys:
    """The keys, of one fetch at a time.

    Keys that are no longer fresh are fetched again beside the request that used them. A token with a key that is not
    known waits for a fetch, but there is no more than one in `BETWEEN_FETCHES`: whoever sends made-up names must not
    make us a weapon against the provider.
    """

    def __init__(self, fetch: Callable[[], Awaitable[KeySet]], clock: Callable[[], float] = time.monotonic) -> None:
        """`fetch` raises ProviderError or ValueError; `clock`: seconds that never go back."""
        self._fetch = fetch
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched_at = self._asked_at = self._stale_at = self._usable_until = NEVER
        self._asking: asyncio.Task[None] | None = None
        self._trouble = "it was not asked yet"
        TOKEN_KEY_AGE.set_function(lambda: self._clock() - self._fetched_at)

    def current(self) -> KeySet | None:
        """The keys that may be used now; None: they are too old, or nobody has any."""
        now = self._clock()
        if now < self._stale_at:
            return self._keys
        if now >= self._usable_until:
            return None
        self._begin()
        return self._keys

    def is_away(self) -> bool:
        """Whether the last fetch failed, so that nobody knows what keys there are."""
        return bool(self._trouble)

    def may_ask(self) -> bool:
        """Whether a fetch is running or would be allowed now."""
        return self._asking is not None or self.wait_to_ask() == 0

    def wait_to_ask(self) -> float:
        """Seconds until the next fetch is allowed."""
        now = self._clock()
        least = BETWEEN_FETCHES if now < self._usable_until else WITHOUT_KEYS
        return max(0.0, self._asked_at + least - now)

    async def ask(self) -> None:
        """Awaits the fetch that is running; begins one if that is allowed; otherwise does nothing. Never raises."""
        self._begin()
        if self._asking is not None:
            await asyncio.shield(self._asking)  # one client that leaves ends it for nobody else

    def _begin(self) -> None:
        if self._asking is None and self.may_ask():
            self._asked_at = self._clock()
            self._asking = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        try:
            keys = await self._fetch()
        except (ProviderError, ValueError) as error:
            self._failed(str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody has got keys
            self._failed(trouble_of(error))
        else:
            self._fetched(keys)
        finally:
            self._asking = None

    def _fetched(self, keys: KeySet) -> None:
        if self._keys is None or keys.thumbprints() != self._keys.thumbprints():
            get_logger("identity").info("token_keys_changed", keys=len(keys.kids), unusable=keys.unusable)
            self._keys = keys
        now = self._fetched_at = self._clock()
        self._stale_at, self._usable_until, self._trouble = now + FRESH, now + FRESH + GRACE, ""
        TOKEN_KEY_FETCHES.labels(outcome="fetched").inc()

    def _failed(self, trouble: str) -> None:
        self._trouble = trouble
        TOKEN_KEY_FETCHES.labels(outcome="failed").inc()
        get_logger("identity").warning("token_keys_not_fetched", error=trouble)

    async def state(self) -> DependencyState:
        """The state of the issuer, as far as this process needs it.

        Whoever asks for it keeps the keys fresh, too, and waits for the issuer only where there are none.
        """
        if self.current() is None:
            await self.ask()
        left = round(self._usable_until - self._clock()) if self._keys else 0
        if left <= 0:
            return DependencyState(ok=False, detail=f"no keys to check tokens with: {self._trouble}")
        if not self._trouble:
            return DependencyState(ok=True)
        return DependencyState(
            ok=True, detail=f"the issuer gives no keys: {self._trouble}; known ones serve {left} s more"
        )

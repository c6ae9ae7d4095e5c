"""What limits bring to a process: their policies, before those of its sides."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from telemetry.health import Probe
from web.asgi import App
from web.fast_handler import FastHandler
from web.policies.decisions import RequestPolicy
from web.policies.limits.rate_limits import KeyOf, RateLimits, address_of, public_of, subject_of, tenant_of
from web.policies.limits.rates import Rate, part_of
from web.policies.limits.settings import LimitSettings
from web.policies.limits.shares import RequestShares, Share

if TYPE_CHECKING:
    from web.policies.limits.valkey_rates import SharedRates


class LimitSide:
    """A side of the application (`web.application.Side`) without a route."""

    route_handlers: Sequence[Any] = ()
    direct_routes: Mapping[str, App] = {}
    raw_routes: Mapping[str, App] = {}
    fast_handlers: Mapping[bytes, FastHandler] = {}
    documents: Mapping[str, Callable[[], dict[str, Any]]] = {}

    def __init__(
        self,
        first: Sequence[RequestPolicy],
        policies: Sequence[RequestPolicy],
        shared: "SharedRates | None" = None,
    ) -> None:
        """What limits a process.

        Args:
            first: Before identity, so that who is refused there has paid, too.
            policies: Behind it.
            shared: What has to run if other processes count for the same rates.
        """
        self.first = first
        self.policies = policies
        self._shared = shared
        self.probes: Mapping[str, Probe] = {"limits": shared.state} if shared is not None else {}

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Tells other processes what is used, where there are any."""
        async with self._shared.running() if self._shared is not None else nullcontext():
            yield


def limit_side(settings: LimitSettings, *, is_open: bool, commands: int, requests: int) -> LimitSide:
    """The policies that the settings ask for.

    Args:
        settings: Of the process.
        is_open: Whether there is only one principal, who stands for everybody and has no share.
        commands: POST requests that the process may have in flight.
        requests: Other requests that it may: its connections.
    """
    percent = settings.principal_share_percent
    shares = RequestShares(Share("commands", commands, percent), Share("requests", requests, percent))
    shared = shared_of(settings)
    before = rates_of(settings, {"address": address_of}, shared)
    behind = rates_of(settings, {"subject": subject_of, "public": public_of, "tenant": tenant_of}, shared)
    return LimitSide(before, behind if is_open else [*behind, shares], shared)


def rates_of(
    settings: LimitSettings, keys: Mapping[str, KeyOf], shared: "SharedRates | None" = None
) -> list[RequestPolicy]:
    """One policy for all rates that are set, or none."""
    window = settings.limit_window_ms / 1000
    units = {"address": settings.limit_address, "subject": settings.limit_subject, "tenant": settings.limit_tenant}
    units["public"] = part_of(settings.limit_tenant, settings.public_keys_percent)
    rates = [(Rate(name, units[name], window), key_of) for name, key_of in keys.items() if units[name]]
    return [RateLimits(rates, shared=shared)] if rates else []


def shared_of(settings: LimitSettings) -> "SharedRates | None":
    """What shares the rates with other processes, where that is set."""
    if not settings.limit_valkey_url.get_secret_value():
        return None
    from web.policies.limits.valkey_rates import SharedRates  # noqa: PLC0415 - with the client of Valkey, 0.2 s

    return SharedRates(settings.limit_valkey_url)

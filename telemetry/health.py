"""What a process says of itself: alive, ready, and the state of each dependency."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec

LIVENESS = "liveness"  # the probe of this name, if a process has one, decides /health/live
PROBE_TIMEOUT = 2.0  # seconds; a dependency that takes longer is not ready


class DependencyState(msgspec.Struct, frozen=True):
    """One dependency as a probe found it. `detail` says what to look at when it is not ok; never a secret."""

    ok: bool
    detail: str = ""


Probe = Callable[[], Awaitable[DependencyState]]


async def check(probes: Mapping[str, Probe]) -> dict[str, DependencyState]:
    """Runs all probes side by side, each within `PROBE_TIMEOUT`; a probe that raises is a dependency that is not ok."""
    states = await asyncio.gather(*(_check_one(probe) for probe in probes.values()))
    return dict(zip(probes, states, strict=True))


async def _check_one(probe: Probe) -> DependencyState:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            return await probe()
    except TimeoutError:
        return DependencyState(ok=False, detail=f"no answer within {PROBE_TIMEOUT:g} s")
    except Exception as error:  # noqa: BLE001 - whatever it is, the dependency is not usable
        return DependencyState(ok=False, detail=type(error).__name__)

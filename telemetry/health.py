"""Checks the dependencies of a process, for its health endpoints."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec

LIVENESS = "liveness"  # if a process has a probe of this name, it decides the answer of /health/live
PROBE_TIMEOUT = 2.0  # seconds; a dependency that takes longer is not ready

# What Python raises for wrong code. No driver raises one of them for what a server did.
FAULTS = (
    TypeError,
    AttributeError,
    NameError,
    LookupError,
    AssertionError,
    ArithmeticError,
    NotImplementedError,
    RecursionError,
    ImportError,
)


class DependencyState(msgspec.Struct, frozen=True):
    """The state of one dependency. `detail` says what to look at if it is not ok; it holds no secret."""

    ok: bool
    detail: str = ""


Probe = Callable[[], Awaitable[DependencyState]]


async def check(probes: Mapping[str, Probe], within: float = PROBE_TIMEOUT) -> dict[str, DependencyState]:
    """Runs all probes concurrently. A probe that raises, or takes longer than `within` seconds, counts as not ok."""
    states = await asyncio.gather(*(_check_one(probe, within) for probe in probes.values()))
    return dict(zip(probes, states, strict=True))


async def _check_one(probe: Probe, within: float) -> DependencyState:
    try:
        async with asyncio.timeout(within):
            return await probe()
    except TimeoutError:
        return DependencyState(ok=False, detail=f"no answer within {within:g} s")
    except Exception as error:  # noqa: BLE001 - any error means that the dependency cannot be used
        return DependencyState(ok=False, detail=trouble_of(error))


def trouble_of(error: BaseException) -> str:
    """What to say instead of the text of an error, which may quote secrets: its class, and whether it is our fault."""
    name = type(error).__name__
    return f"a fault of this program ({name})" if isinstance(error, FAULTS) else name

"""Reads `/metrics` of the processes: are they there, and what do they count?"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT = 1.5  # seconds: a process that was killed is seen within two looks
LARGEST = 2_000_000  # bytes of one answer
COUNTED = frozenset(
    {
        *("http_requests_total", "commands_rejected_total", "messages_published_total", "publish_round_seconds_bucket"),
        *("events_projected_total", "streams_open", "partitions_owned", "publish_failures_total"),
        "certificate_end_timestamp_seconds",  # every process tells it: who does not is none of ours
    }
)

Sample = tuple[str, tuple[tuple[str, str], ...]]  # name and labels


class ProcessSeen(msgspec.Struct, frozen=True):
    """One process. `problem`: why it could not be asked; empty: it answered."""

    url: str
    problem: str = ""
    samples: Mapping[Sample, float] = {}

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series of this name that have these labels."""
        wanted = labels.items()
        return sum(
            value for (found, has), value in self.samples.items() if found == name and wanted <= dict(has).items()
        )

    def buckets(self, name: str, **labels: str) -> dict[float, float]:
        """The cumulative buckets of a histogram, by upper bound."""
        found: dict[float, float] = {}
        for (series, has), value in self.samples.items():
            of = dict(has)
            if series == name and labels.items() <= of.items():
                bound = bound_of(of)
                found[bound] = found.get(bound, 0.0) + value
        return found


class Scraper:
    """Asks all processes at once, over connections that stay open."""

    def __init__(self, urls: Sequence[str], key: str, ca_file: str) -> None:
        self._urls = urls
        verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca_file) if ca_file else True
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(timeout=TIMEOUT, verify=verify, headers=headers, trust_env=False)

    async def look(self) -> list[ProcessSeen]:
        """What each process says now, in the order of the settings."""
        return list(await asyncio.gather(*(self._one(url) for url in self._urls)))

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _one(self, url: str) -> ProcessSeen:
        try:
            async with asyncio.timeout(TIMEOUT):  # httpx has one for each read, and a drop a second passes it
                status, body = await self._read(f"{url}/metrics")
        except (TimeoutError, httpx.TimeoutException):
            return ProcessSeen(url, "it does not answer in time")
        except httpx.HTTPError as error:
            return ProcessSeen(url, f"it cannot be reached ({type(error).__name__})")
        if status in (401, 403):  # it is there; without CONSOLE_WATCH_KEY it says nothing
            return ProcessSeen(url)
        if status != 200:
            return ProcessSeen(url, f"its /metrics answers {status}")
        if len(body) > LARGEST:
            return ProcessSeen(url, f"its /metrics is larger than {LARGEST:,} bytes")
        return seen_in(url, body.decode("utf-8", "replace"))

    async def _read(self, url: str) -> tuple[int, bytes]:
        """Status and body, of which no more is read than tells that it is too large."""
        body = bytearray()
        async with self._client.stream("GET", url) as response:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > LARGEST:
                    break
        return response.status_code, bytes(body)


def seen_in(url: str, exposition: str) -> ProcessSeen:
    """What a process tells, or that nothing can be made of it: it may be of another version, or another program."""
    try:
        samples = samples_of(exposition)
    except ValueError as error:
        return ProcessSeen(url, f"its /metrics cannot be read ({error})")
    return ProcessSeen(url, "" if samples else "its /metrics has nothing of Footfall", samples)


def samples_of(exposition: str) -> dict[Sample, float]:
    """The series that the console counts with. Raises ValueError for what is no exposition, or no histogram."""
    lines = [line for line in exposition.splitlines(keepends=True) if line.partition("{")[0].split(" ")[0] in COUNTED]
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families("".join(lines))
        for sample in family.samples
    }
    for name, labels in found:
        if name.endswith("_bucket"):
            bound_of(dict(labels))
    return found


def bound_of(labels: Mapping[str, str]) -> float:
    """The upper bound of a bucket. Raises ValueError."""
    return float(labels.get("le", "none").replace("+Inf", "inf"))

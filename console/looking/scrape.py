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
                bound = float(of["le"].replace("+Inf", "inf"))
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
            response = await self._client.get(f"{url}/metrics")
        except httpx.TimeoutException:
            return ProcessSeen(url, "it does not answer in time")
        except httpx.HTTPError as error:
            return ProcessSeen(url, f"it cannot be reached ({type(error).__name__})")
        if response.status_code in (401, 403):  # it is there; without CONSOLE_WATCH_KEY it says nothing
            return ProcessSeen(url)
        if response.status_code != 200:
            return ProcessSeen(url, f"its /metrics answers {response.status_code}")
        return ProcessSeen(url, samples=samples_of(response.text[:LARGEST]))


def samples_of(exposition: str) -> dict[Sample, float]:
    """The series that the console counts with."""
    lines = [line for line in exposition.splitlines(keepends=True) if line.partition("{")[0].split(" ")[0] in COUNTED]
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families("".join(lines))
        for sample in family.samples
    }

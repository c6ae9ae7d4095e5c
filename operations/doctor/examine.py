"""Examines everything, whatever else is wrong: a server that is away hides only what it alone can tell."""

import asyncio
import os
from collections.abc import Sequence

import asyncpg
import msgspec
from aiokafka.errors import KafkaError

from contracts.types import Catalogue
from operations.differing_catalogues import differing_catalogues
from operations.doctor import database
from operations.doctor.certificates import certificate_findings
from operations.doctor.configured import settings_findings
from operations.doctor.findings import Finding, well_unless
from operations.doctor.kafka import kafka_findings
from operations.doctor.keys import key_findings
from operations.doctor.projectors import builds, group_findings, history_findings, standing_findings
from operations.doctor.retention import retention_findings
from operations.doctor.sinks import sink_findings
from operations.status.observer import observing
from operations.status.report import GenerationStatus, SinkStatus, Status, standing
from projector.sealed.keys import Keys
from projector.settings import ProjectorSettings
from read_model.connecting.pool import connect

PATIENCE = 15.0  # seconds for each part
DATABASE_AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
AWAY = (*DATABASE_AWAY, KafkaError)


async def examine(settings: ProjectorSettings, catalogue: Catalogue | None, keys: Keys | None = None) -> list[Finding]:
    """Looks at PostgreSQL, Kafka, the key store and the projectors; never raises for what it finds there."""
    servers = await asyncio.gather(
        _database(settings), _kafka(settings), _keys(keys), certificate_findings(settings, os.environ)
    )
    found = [*settings_findings(settings, os.environ), *(finding for each in servers for finding in each)]
    if any(finding.verdict == "problem" and finding.check in ("PostgreSQL", "Kafka") for finding in found):
        says = "What the projectors do cannot be known while a server is away."
        return [*found, Finding("projecting", "unknown", says)]
    return [*found, *await _retention(settings), *await _projecting(settings, catalogue)]


async def _database(settings: ProjectorSettings) -> list[Finding]:
    try:
        connection = await connect(settings.database_url.get_secret_value(), "footfall-doctor", query_timeout=PATIENCE)
    except DATABASE_AWAY as error:
        return [Finding("PostgreSQL", "problem", f"It cannot be used: {told(error)}.", _to_get_in(error))]
    try:
        return await _checked(connection)
    finally:
        connection.terminate()


def _to_get_in(error: Exception) -> str:
    if isinstance(error, asyncpg.TooManyConnectionsError):
        return "End idle sessions, lower QUERY_POOL_SIZE or MAX_EXPORTS, or raise the limit that is reached."
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return "Check the user and the password in DATABASE_URL, and what pg_hba.conf lets in."
    return "Check DATABASE_URL, and that the server runs and takes connections from here."


async def _checked(connection: asyncpg.Connection) -> list[Finding]:
    found: list[Finding] = []
    for name, check in database.CHECKS.items():
        try:
            found += await check(connection)
        except asyncpg.PostgresError as error:  # it answers, but not this
            found.append(Finding(name, "unknown", f"It could not be looked at: {told(error)}."))
        except DATABASE_AWAY as error:
            return [*found, Finding("PostgreSQL", "problem", f"It stopped answering: {told(error)}.")]
    return found


async def _kafka(settings: ProjectorSettings) -> list[Finding]:
    try:
        async with asyncio.timeout(PATIENCE):
            return await kafka_findings(settings, (settings.kafka_dlq_topic, settings.kafka_audit_topic))
    except (OSError, KafkaError) as error:  # TimeoutError is an OSError
        remedy = (
            "Check KAFKA_BOOTSTRAP_SERVERS and the security settings, and that a broker runs; one that ended says why "
            "in its own log, a full disk for example."
        )
        return [Finding("Kafka", "problem", f"It cannot be used: {told(error)}.", remedy)]


async def _keys(keys: Keys | None) -> list[Finding]:
    return [] if keys is None else await key_findings(keys)


async def _retention(settings: ProjectorSettings) -> list[Finding]:
    try:
        async with asyncio.timeout(PATIENCE):
            connection = await connect(settings.database_url.get_secret_value(), "footfall-doctor")
            try:
                return await retention_findings(settings, connection)
            finally:
                connection.terminate()
    except AWAY as error:
        return [Finding("retention", "unknown", f"It could not be looked at: {told(error)}.")]


async def _projecting(settings: ProjectorSettings, catalogue: Catalogue | None) -> list[Finding]:
    try:
        async with asyncio.timeout(2 * PATIENCE), observing(settings, catalogue) as observer:
            status = await observer.status()
            around = await _around(settings, status)
    except AWAY as error:
        return [Finding("projecting", "unknown", f"It could not be looked at: {told(error)}.")]
    of_sinks = sink_findings(status.sinks)
    return [*_partitions(status), *around, *of_sinks, *_letters(status), *_catalogues(status.event_types, catalogue)]


async def _around(settings: ProjectorSettings, status: Status) -> list[Finding]:
    active = [each for each in status.generations if each.state == "active"]
    groups = [finding for each in active for finding in await group_findings(settings, each)]
    return [
        *groups,
        *builds(status.generations),
        *await history_findings(settings, [each for every in active for each in every.partitions]),
    ]


def _partitions(status: Status) -> list[Finding]:
    own: list[GenerationStatus | SinkStatus] = [*status.generations, *status.sinks]  # which have findings of their own
    of_one = {sentence for each in own for sentence in standing(each.name, each.partitions, alone=True)}
    found = [Finding("projecting", "problem", each) for each in status.problems if each not in of_one]
    found += standing_findings(status.generations)
    sentence = status.misplaced.sentence()
    if sentence is not None:
        found.append(Finding("projecting", "warning", sentence))
    active = [
        each for generation in status.generations if generation.state == "active" for each in generation.partitions
    ]
    owners = {each.owner for each in active if each.owner}
    lag = sum(each.lag for each in active)
    says = f"{len(active)} partitions, {len(owners)} owners, {lag:,} events behind."
    return well_unless("projecting", found, says)


def _letters(status: Status) -> list[Finding]:
    parked = sum(each.count for each in status.dead_letters if each.state == "parked")
    if not parked:
        return [Finding("dead letters", "well", "None is parked.")]
    remedy = "See why with `footfall dlq list`; then redrive or discard them."
    return [Finding("dead letters", "warning", f"{parked:,} events are parked.", remedy)]


def _catalogues(in_use: Sequence[str], own: Catalogue | None) -> list[Finding]:
    if not in_use:
        return [Finding("event types", "unknown", "No projector has said which catalogue it uses.")]
    differing = [Finding("event types", "warning", sentence) for sentence in differing_catalogues(in_use, own)]
    return well_unless("event types", differing, "All projectors have the same catalogue.")


def told(error: BaseException) -> str:
    """One line about an error whose text holds no secret."""
    text = (str(error).splitlines() or [""])[0].rstrip(".")
    name = type(error).__name__
    return text if text.startswith(name) else f"{name}: {text}" if text else name


def as_json(findings: list[Finding]) -> bytes:
    """The findings as one JSON document."""
    return msgspec.json.encode(findings)

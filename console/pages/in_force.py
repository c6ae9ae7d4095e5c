"""`/console/settings`: what this process runs with, which versions, which event types, and how large everything is."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from importlib.metadata import version
from typing import Any, get_args

from litestar import Response, get
from pydantic import SecretStr

from brokers.settings import KafkaSettings
from console.asking import AnyRequest, PageError, TheConsole
from console.rendering import size as size_of
from operations.doctor.examine import AWAY, told
from operations.status.topic_size import topic_bytes
from read_model.tables.schema_version import newest_migration, schema_state
from telemetry.logs import get_logger

SIZES = """
SELECT n.nspname || '.' || c.relname AS name, pg_total_relation_size(c.oid) AS bytes, greatest(c.reltuples, 0) AS rows
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND (n.nspname LIKE 'read\\_g%' OR n.nspname = 'ops') ORDER BY 2 DESC LIMIT 40
"""
OF_THESE = ("litestar", "uvicorn", "aiokafka", "asyncpg", "msgspec", "jinja2")
KAFKA_PATIENCE = 3.0  # seconds
NOT_DESCRIBED = "Kafka tells no size, for which it wants DESCRIBE on the cluster"


class NoAnswer(Enum):
    """Kafka did not answer in time, or a broker of it."""

    NO_ANSWER = "no answer"


NO_ANSWER = NoAnswer.NO_ANSWER


@get("/console/settings", include_in_schema=False)
async def in_force(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """The page."""
    asking = console.asking(request)
    if not asking.is_operator:
        raise PageError(403, "Settings are shown to operators.")
    async with console.pool().acquire() as connection:
        sizes = await connection.fetch(SIZES)
        server = await connection.fetchval("SHOW server_version")
        schema = await schema_state(connection, newest_migration())
    versions = [("Footfall", version("footfall")), ("Python", sys.version.split()[0]), ("PostgreSQL", server)]
    versions += [
        ("Schema", schema.detail or f"{newest_migration()}, as it should be"),
        *((name, version(name)) for name in OF_THESE),
    ]
    ends = {each.partition: each.end_offset for each in console.watch.viewed().partitions()}
    stored = await topic_sizes(console.projecting, list(ends))
    return asking.page(
        "settings.html",
        settings=shown(console.settings, console.projecting),
        versions=versions,
        sizes=sizes,
        ends=[(partition, end, size_told(stored, partition)) for partition, end in ends.items()],
        types=console.catalogue.types,
    )


async def topic_sizes(settings: KafkaSettings, partitions: Sequence[int]) -> Mapping[int, int] | NoAnswer:
    """Bytes of each partition at all brokers. A partition that is missing is one that Kafka does not tell us of."""
    try:
        async with asyncio.timeout(KAFKA_PATIENCE):
            return await topic_bytes(settings, partitions)
    except AWAY as error:
        get_logger("console").debug("topic_size_unknown", error=told(error))
        return NO_ANSWER


def size_told(sizes: Mapping[int, int] | NoAnswer, partition: int) -> str:
    """What the page says of a partition's size."""
    if isinstance(sizes, NoAnswer):
        return "Kafka did not answer how large it is"
    size = sizes.get(partition)
    return NOT_DESCRIBED if size is None else f"{size_of(size)} with all copies"


def shown(*all_settings: Any) -> list[tuple[str, str, str]]:
    """Name, value and where it came from; of a secret only whether it is set."""
    found: dict[str, tuple[str, str, str]] = {}
    for settings in all_settings:
        for name, field in type(settings).model_fields.items():
            value = getattr(settings, name)
            secret = (
                field.annotation is SecretStr or SecretStr in get_args(field.annotation) or isinstance(value, SecretStr)
            )
            text = (
                ("set, not shown" if value.get_secret_value() else "not set")
                if secret and value is not None
                else str(value)
            )
            found.setdefault(name, (name.upper(), text if value is not None else "not set", origin(name, value, field)))
    return sorted(found.values())


def origin(name: str, value: Any, field: Any) -> str:
    """Where a value came from."""
    if name.upper() in os.environ or name in os.environ:
        return "environment"
    if f"{name.upper()}_FILE" in os.environ:
        return "file"
    return "default" if not field.is_required() and value == field.default else "file, .env or command line"


SETTINGS_ROUTES = (in_force,)

"""What each round begins with: a database of its own, and topics of its own."""

import asyncio

import asyncpg
from pydantic import SecretStr

from chaos.stand.servers import Servers
from operations.settings import MigrateSettings, TopicSettings
from operations.setup import create_topics, migrate

TEMPLATE = "chaos_template"


def prepare(servers: Servers) -> None:
    """Makes the template database, of which each round's database is a copy."""
    asyncio.run(_create_database(servers, TEMPLATE, "template1"))
    url = servers.url("owner", TEMPLATE).partition("?")[0]
    migrate(MigrateSettings(database_url=SecretStr(url)))


def new_database(servers: Servers, name: str, schema: str = "") -> str:
    """Makes a migrated, empty database and returns its name. `schema`: a statement that changes it."""
    asyncio.run(_create_database(servers, name, TEMPLATE))
    if schema:
        asyncio.run(_execute(servers, name, schema))
    return name


async def _create_database(servers: Servers, name: str, template: str) -> None:
    await _execute(servers, "footfall", f'CREATE DATABASE "{name}" TEMPLATE "{template}"')


async def _execute(servers: Servers, database: str, statement: str) -> None:
    connection = await asyncpg.connect(servers.url("owner", database))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def new_topic(servers: Servers, topic: str) -> None:
    """Makes the topics of a round."""
    several = len(servers.broker_names)
    create_topics(
        TopicSettings(
            kafka_bootstrap_servers=servers.kafka,
            kafka_topic=topic,
            kafka_dlq_topic=f"{topic}-dlq",
            kafka_audit_topic=f"{topic}-audit",
            kafka_partitions=6 if several == 1 else 10,
            kafka_replication_factor=several,
        )
    )

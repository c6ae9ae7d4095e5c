"""`footfall topics`: creates the topics, and says how those that exist differ."""

import asyncio
import sys

import rich_click as click

from footfall.cli.failures import readable_failures
from footfall.cli.options import state_dir_option


@click.group()
def topics() -> None:
    """Create the Kafka topics, and check them."""


@topics.command("create")
@state_dir_option
def topics_create() -> None:
    """Create the topics of events, of dead letters and of the audit log; with AUTH=keys, that of the keys, too.

    It reads KAFKA_BOOTSTRAP_SERVERS, KAFKA_TOPIC, KAFKA_DLQ_TOPIC, KAFKA_AUDIT_TOPIC, KAFKA_PARTITIONS and
    KAFKA_REPLICATION_FACTOR. A topic that exists is not changed; a sentence on standard error names each way in
    which it differs from a new one.
    """
    from footfall.cli.settings import operator_settings
    from footfall.processes.identity import make_keys_topic
    from operations.settings import TopicSettings
    from operations.setup import create_topics

    settings = operator_settings(TopicSettings, "owner")
    with readable_failures("The topics were not created", server="Kafka"):
        for topic, found in create_topics(settings).items():
            click.echo(f"{topic}: {found.outcome}")
            for sentence in found.differs:
                click.echo(f"  {sentence}", err=True)
        if keys_topic := make_keys_topic(kafka_bootstrap_servers=settings.kafka_bootstrap_servers):
            click.echo(f"{keys_topic}: holds keys")


@topics.command("check")
@state_dir_option
def topics_check() -> None:
    """Say how the topics, and Kafka's topic of groups, differ from what `topics create` makes, and what that means.

    It reads the same settings as `topics create`, needs DESCRIBE and DESCRIBE_CONFIGS on the topics, and changes
    nothing.

    \b
    Exit codes:
      0  nothing differs
      1  something differs, or could not be looked at
    Examples:
      KAFKA_PARTITIONS=10 KAFKA_REPLICATION_FACTOR=3 footfall topics check
    """
    from footfall.cli.settings import operator_settings
    from operations.settings import TopicSettings
    from operations.topics import check_topics

    settings = operator_settings(TopicSettings, "owner")
    with readable_failures("The topics were not checked", server="Kafka"):
        checked = asyncio.run(check_topics(settings))
    for found in checked:
        click.echo(f"{found.topic}: {'differs' if found.differs else 'as it should be'}")
        for sentence in found.differs:
            click.echo(f"  {sentence}")
    sys.exit(1 if any(found.differs for found in checked) else 0)

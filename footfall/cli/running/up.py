"""`footfall up`: everything on this machine, until Ctrl-C."""

from pathlib import Path
from typing import Any

import rich_click as click

from footfall.cli.running.stack import exit_with_stack_errors, front_port_option, projectors_option


@click.command()
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".footfall"),
    show_default=True,
    help="Where the embedded servers keep their data.",
)
@front_port_option
@click.option("--kafka-port", type=click.IntRange(1, 65_535), help="Port of Kafka.  [default: 9092, or any free one]")
@click.option(
    "--postgres-port", type=click.IntRange(1, 65_535), help="Port of PostgreSQL.  [default: 5432, or any free one]"
)
@click.option(
    "--brokers",
    type=click.Choice(["1", "3", "5"]),
    callback=lambda _context, _parameter, value: value and int(value),
    help="Kafka brokers; with 3 every event is on 3.  [default: those of --state-dir, or 1]",
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 1_000),
    help="Partitions of the topic, if this start creates it.  [default: 6; 10 with several brokers]",
)
@projectors_option
@click.option(
    "--projector-port",
    type=click.IntRange(1, 65_535),
    help="Port of the first projector's health and metrics.  [default: 3003, or any free one]",
)
@click.option(
    "--secure",
    is_flag=True,
    help="TLS, passwords and rights at Kafka; HTTPS and keys at the front. See docs/transport.md.",
)
def up(port: int | None, **rest: Any) -> None:
    """Run a real Kafka, a real PostgreSQL and all of Footfall until Ctrl-C.

    Events are kept in --state-dir and are there again at the next start. Exits 0 after Ctrl-C or SIGTERM, and 1 if a
    process ends by itself. Logs are in the directory `logs` of --state-dir. One of several brokers that ends is started
    again; the others go on meanwhile.

    \b
    Examples:
      footfall up
      footfall up --brokers 3 --state-dir .footfall/cluster
      footfall up --port 8080 --state-dir /var/lib/footfall --projectors 2
      footfall up --secure --state-dir .footfall/secure
    """
    from footfall.local.running import RunOptions
    from footfall.local.up import up as run

    options = RunOptions(front_port=port, **rest)
    exit_with_stack_errors(lambda console: run(options, console))

"""`footfall demo`: a day of traffic, and an account of every event."""

from pathlib import Path

import rich_click as click

from footfall.cli.running.stack import exit_with_stack_errors, front_port_option, projectors_option


@click.command()
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".footfall/demo"),
    show_default=True,
    help="Where the embedded servers keep the demo's data.",
)
@front_port_option
@click.option(
    "--events", type=click.IntRange(10, 1_000_000), default=20_000, show_default=True, help="Valid events to post."
)
@click.option("--users", type=click.IntRange(1, 100_000), default=500, show_default=True, help="Users of the events.")
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Random seed; the same seed posts the same events."
)
@click.option(
    "--connections", type=click.IntRange(2, 1_000), default=32, show_default=True, help="Connections that post."
)
@projectors_option
@click.option("--keep", is_flag=True, help="Leave everything running afterwards, with the console, until Ctrl-C.")
def demo(state_dir: Path, port: int | None, projectors: int, keep: bool, **rest: int) -> None:
    """Post a day of traffic, through a real Kafka and a real PostgreSQL, and account for every event.

    It starts everything, posts, prints a report and stops everything. Exits 0 only if exactly the accepted events were
    projected, otherwise 1.

    \b
    Examples:
      footfall demo
      footfall demo --keep
      footfall demo --events 200000 --connections 64 --projectors 2
    """
    from footfall.local.demo.account import DemoOptions
    from footfall.local.demo.command import demo as run
    from footfall.local.running import RunOptions

    options = DemoOptions(**rest)
    where = RunOptions(state_dir, port, projectors=projectors, console=keep)
    exit_with_stack_errors(lambda console: run(where, options, console, keep=keep))

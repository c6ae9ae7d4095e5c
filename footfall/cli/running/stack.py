"""What the commands that run a whole stack share: two options, and how they end."""

import sys
from collections.abc import Callable
from typing import Never

import rich_click as click
from rich.console import Console

from footfall.cli.failures import fail

front_port_option = click.option(
    "--port", type=click.IntRange(1, 65_535), help="HTTP port of both sides.  [default: 3000, or any free one]"
)
projectors_option = click.option(
    "--projectors", type=click.IntRange(1, 16), default=1, show_default=True, help="Projector processes."
)


def exit_with_stack_errors(run: Callable[[Console], int]) -> Never:
    """Calls `run` with a console and exits with the code that it returns; prints a StackError and exits 1.

    A catalogue of event types that is not usable ends it before a server is started: in a process that it starts, only
    the log would say why.
    """
    from command_side.settings import CommandSettings
    from footfall.local.embedded import StackError
    from footfall.processes.environment import load_catalogue, load_settings

    load_catalogue(load_settings(CommandSettings).event_types_file)
    console = Console()
    try:
        sys.exit(run(console))
    except StackError as error:
        fail(str(error))

"""Options that several commands share."""

from pathlib import Path

import rich_click as click

STATE_DIR = "footfall.state_dir"  # key in click's `meta`


def _remember(context: click.Context, _parameter: click.Parameter, value: Path) -> None:
    context.meta[STATE_DIR] = value


state_dir_option = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".footfall"),
    show_default=True,
    expose_value=False,
    callback=_remember,
    help="Where a `footfall up` runs; used when the environment names no server.",
)


def state_dir() -> Path:
    """What the option of the command that runs says."""
    context = click.get_current_context()
    assert context is not None
    found: Path = context.meta[STATE_DIR]
    return found

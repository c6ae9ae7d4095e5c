"""Options that several commands have."""

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
    help="State directory of a running `footfall up`, whose servers are used if the environment names none.",
)


def state_dir() -> Path:
    """Returns the value of the running command's --state-dir."""
    context = click.get_current_context()
    assert context is not None
    found: Path = context.meta[STATE_DIR]
    return found


port_option = click.option(
    "--port", type=click.IntRange(0, 65_535), help="Port to listen on; 0: any free one.  [default: the setting PORT]"
)

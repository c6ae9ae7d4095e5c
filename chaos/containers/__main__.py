"""`python -m chaos.containers` (or `make containers`): builds our image and runs compose.yaml with it."""

import asyncio
import sys
from pathlib import Path

import rich_click as click
from rich.console import Console

from chaos.containers.composition import Composition
from chaos.containers.confinement import require_confinement
from chaos.containers.engine import Engine, EngineError, obstacles
from chaos.containers.images import describe, make_images
from chaos.containers.proof import LostError, account_for
from chaos.containers.unread import UnboundedError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--events", default=5_000, show_default=True, type=click.IntRange(1_000), help="Events to post, at least."
)
@click.option(
    "--home",
    default=Path(".footfall/containers"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Directory for its own files.",
)
@click.option("--cluster", is_flag=True, help="With three brokers, as deploy/cluster.env has it.")
def main(events: int, home: Path, *, cluster: bool) -> None:
    """Build our image, run compose.yaml with Podman, kill a container of each service, account for every event.

    It needs root and Podman. It makes the other images from Debian's packages and Apache's jars, and asks no image
    registry.

    \b
    Exit codes:
      0  every event is accounted for
      1  an event is missing, doubled or invented, a container failed or is not confined as compose.yaml says, or unread
         answers took too much memory, or did not give it back
      2  containers cannot be run here
    """
    console = Console(stderr=True, highlight=False)
    hindrances = obstacles()
    if hindrances:
        console.print("Containers cannot be run here.", *hindrances, sep="\n")
        sys.exit(2)
    engine = Engine(home.resolve())
    console.print(describe(engine))
    try:
        make_images(engine, console.print)
        composition = Composition(engine, home.resolve(), console.print, cluster=cluster)
        with composition.running():
            console.print(
                f"{require_confinement(composition)} limits of containers and networks are as in compose.yaml"
            )
            account = asyncio.run(account_for(composition, events, console.print))
    except (EngineError, LostError, UnboundedError) as error:
        console.print(f"FAILED: {error}", markup=False)
        sys.exit(1)
    print(
        f"{len(account.acknowledged)} events acknowledged in {account.requests} requests, {account.refused} tries "
        f"repeated, every service killed once: missing 0, doubled 0, phantom 0. {account.took:.0f} s."
    )


if __name__ == "__main__":
    main()

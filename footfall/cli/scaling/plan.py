"""`footfall plan`: what a rate of events needs."""

import rich_click as click


@click.command()
@click.option("--rate", required=True, type=click.FloatRange(min=0.001), help="Events a second, the mean of a day.")
@click.option("--retention", required=True, type=click.FloatRange(min=0.01), help="Days that the topic keeps.")
@click.option(
    "--rows-retention",
    type=click.FloatRange(min=0.01),
    help="Days that the read model keeps.  [default: as --retention]",
)
@click.option(
    "--peak",
    default=3.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="How many times the mean at the height.",
)
@click.option(
    "--event-bytes", default=150, show_default=True, type=click.IntRange(1, 65_536), help="Bytes of an event's JSON."
)
@click.option(
    "--batched", default=0.0, show_default=True, type=click.FloatRange(0, 1), help="Share of events sent in batches."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(
    rate: float,
    retention: float,
    rows_retention: float | None,
    peak: float,
    event_bytes: int,
    batched: float,
    *,
    as_json: bool,
) -> None:
    """Say what a rate of events needs: processes, partitions, cores and disks.

    It asks no server. It adds up what an event costs, as it was measured; docs/scaling.md says what that leaves out.

    \b
    Examples:
      footfall plan --rate 1000 --retention 365
      footfall plan --rate 100000 --retention 30 --rows-retention 7 --batched 1
    """
    from footfall.cli.scaling.report import show
    from operations.scaling.model import Load

    rows = retention if rows_retention is None else rows_retention
    show(Load(rate, retention, rows, peak, event_bytes, batched), as_json=as_json)

"""`footfall archive`: its commands and options (docs/archive.md)."""

from pathlib import Path

import rich_click as click

from footfall.cli.options import state_dir_option

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


@click.group()
def archive() -> None:
    """Keep the log's records as files, prove them, and build the read model from files and topic.

    ARCHIVE_LOCATION names a directory, or s3://bucket/folder. The files are Parquet, so DuckDB, pandas and Spark read
    them. See docs/archive.md.

    \b
    Examples:
      footfall archive run          archive what is new; once an hour, by your scheduler
      footfall archive verify       is every file as it was written?
      footfall archive restore      a new generation from the archive and then the topic
      footfall archive rewrite      take erased users out of the files
    """


@archive.command()
@state_dir_option
@click.option(
    "--metrics-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write metrics into this file, for the node exporter's textfile collector.",
)
@json_option
def run(metrics_file: Path | None, as_json: bool) -> None:
    """Archive every record up to where the topic ends now. A record is archived once, whatever kills this command.

    It needs READ and DESCRIBE on the topic and WRITE on KAFKA_AUDIT_TOPIC, and no database.

    \b
    Exit codes:
      0  everything is archived
      1  a partition could not be archived without a gap, or nothing could; a sentence says why
    """
    from footfall.cli.archive.terminal import run as go

    go(metrics_file, as_json=as_json)


@archive.command()
@state_dir_option
@click.option("--head", help="The hash of the last entry, as `run` printed it: finds entries that are gone at the end.")
@json_option
def verify(head: str | None, as_json: bool) -> None:
    """Read every file, and name each that is not as it was written. It needs neither Kafka nor a database.

    \b
    Exit codes:
      0  everything is as it was written
      1  something is not
    """
    from footfall.cli.archive.terminal import verify as go

    go(head, as_json=as_json)


@archive.command()
@state_dir_option
@click.option("--max-rate", type=click.IntRange(1), help="Events a second, as in `rebuild start`.  [default: no cap]")
@json_option
def restore(max_rate: int | None, as_json: bool) -> None:
    """Build a generation from the archive; projectors that run continue it from the topic.

    It proves first that archive and topic fit together: no offset is missing between them, and each record that both
    have is the same. Then `footfall rebuild status`, `verify` and `promote` go on as after `rebuild start`. Killed, the
    same command goes on where it was. DATABASE_URL must name the database's owner.

    \b
    Exit codes:
      0  the generation has all that the archive has, and projectors go on
      1  the seam is not proven, the archive is not whole, or something failed; a sentence says what
    """
    from footfall.cli.archive.terminal import restore as go

    go(max_rate, as_json=as_json)


@archive.command()
@state_dir_option
@click.option("--yes", is_flag=True, help="Do not ask. The bytes of erased users cannot be brought back.")
@json_option
def rewrite(yes: bool, as_json: bool) -> None:
    """Take erased users out of the archive: in the place of their records stand stubs, which keep the counts.

    Whoever the archive has an erasure marker of is taken out, so archive first what is new. Files without such records
    stay as they are. Killed, the same command goes on where it was. DATABASE_URL must name the database's owner.

    \b
    Exit codes:
      0  no file of the archive has a record of an erased user
      1  the archive is not whole, or something failed; a sentence says what
    """
    from footfall.cli.archive.terminal import rewrite as go

    go(yes=yes, as_json=as_json)

"""Runs and prints what `footfall archive` does."""

import asyncio
import os
import sys
import time
from contextlib import closing
from pathlib import Path

import msgspec
import rich_click as click

from contracts.event import PERSONAL_FIELDS
from footfall.cli.archive.metrics import write_metrics
from footfall.cli.called_as import as_called
from footfall.cli.failures import readable_failures
from footfall.cli.sealed.key_store import operator_keys
from footfall.cli.settings import operator_settings
from footfall.processes.environment import load_catalogue, load_settings
from operations.archive import restoring, rewriting, running, verifying
from operations.archive.files.opening import open_store
from operations.archive.files.refusal import ArchiveError
from operations.archive.filling import Filling
from operations.archive.known_ends import noted
from operations.audit.deed import audited, by_kafka, by_url
from operations.rebuild.operator import operating
from operations.refusal import RefusedError
from operations.settings import ArchiveRewriteSettings, ArchiveSettings, RestoreSettings
from projector import failpoints
from projector.privacy.erased_users import product_fields
from projector.settings import ProjectorSettings
from read_model.audit import AuditUnavailableError
from read_model.connecting.pool import connect
from sealing.errors import KeysError
from telemetry.logs import configure_logs

REFUSALS = (ArchiveError, AuditUnavailableError)
REWRITE_REFUSALS = (*REFUSALS, RefusedError)
PROGRESS_EVERY = 1.0  # seconds


def run(metrics_file: Path | None, *, as_json: bool) -> None:
    """Archives, and prints what was archived. Exits 1 if a partition was not."""
    settings = operator_settings(ArchiveSettings, "owner")
    failpoints.arm(os.environ)

    async def go() -> running.Ran:
        write = by_kafka(settings.client_options(), settings.kafka_audit_topic)
        with closing(open_store(settings)) as store:
            async with audited(write, "archive run", target=store.place, refusals=REFUSALS) as deed:
                found = await running.run(settings, store, Progress("records archived"))
                deed.target = noted(store.place, found.entries, found.head)
        return found

    with readable_failures("Not archived", refusals=REFUSALS, server="Kafka"):
        found = asyncio.run(go())
    _print_ran(found, as_json=as_json)
    if metrics_file is not None:
        with readable_failures("Archived, and without metrics", server="The metrics' file"):
            write_metrics(metrics_file, found)
    sys.exit(1 if found.problems else 0)


def _print_ran(found: running.Ran, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        click.echo(f"{found.records:,} records in {found.files:,} new files, {found.bytes:,} bytes, at {found.place}.")
        click.echo(f"The archive has {found.entries:,} entries; the hash of the last is {found.head}")
    for sentence in (*found.notes, *found.problems):
        click.echo(sentence, err=True)


def verify(head: str | None, *, as_json: bool) -> None:
    """Verifies, and prints what is wrong. Exits 1 if anything is."""
    settings = load_settings(ArchiveSettings)
    refusals = readable_failures("Not verified", refusals=REFUSALS, server="The archive")
    with refusals, closing(open_store(settings)) as place:
        found = verifying.verify(place, Progress("records verified"), head)
    if as_json:
        click.echo(msgspec.json.encode({"sound": found.sound, **msgspec.to_builtins(found)}))
    else:
        _print_verified(found)
    sys.exit(0 if found.sound else 1)


def _print_verified(found: verifying.Verified) -> None:
    for fault in found.faults:
        click.echo(str(fault))
    click.echo(f"{found.records:,} records in {found.files:,} files at {found.place}; the last hash is {found.head}")
    for partition, (begin, end) in found.spans.items():
        click.echo(f"  partition {partition}: offsets {begin} to {end - 1}")
    if found.strangers:
        click.echo(f"{found.strangers:,} files are no part of it: of a run that was killed, or somebody else's.")
    click.echo("Every file is as it was written." if found.sound else f"{len(found.faults):,} faults.")


def restore(max_rate: int | None, *, as_json: bool) -> None:
    """Restores, and prints where the topic goes on."""
    settings = operator_settings(RestoreSettings, "owner")
    overrides = {name: getattr(settings, name) for name in ("database_url", "kafka_bootstrap_servers")}
    projecting = load_settings(ProjectorSettings, **overrides)
    failpoints.arm(os.environ)
    catalogue, keys = load_catalogue(projecting.event_types_file), operator_keys()
    configure_logs("WARNING", PERSONAL_FIELDS | catalogue.personal_fields)
    filling = Filling(projecting, catalogue, keys, Progress("offsets restored"))

    async def go() -> restoring.Restored:
        with closing(open_store(settings)) as store:
            async with operating(settings) as operator:
                return await restoring.restore(operator, settings, store, filling, max_rate)

    with readable_failures("Not restored", refusals=(*REFUSALS, RefusedError, KeysError)):
        found = asyncio.run(go())
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    click.echo(f"{found.generation} has the {found.records:,} records of the archive. Projectors go on from the topic.")
    for seam in found.seams:
        click.echo(
            f"  partition {seam.partition}: at offset {seam.at}; {seam.compared:,} records are in both, and equal"
        )
    click.echo(as_called("Follow it: footfall rebuild status --watch"))


def rewrite(*, yes: bool, as_json: bool) -> None:
    """Rewrites, and prints what was taken out. Exits 1 if erased users may be left."""
    settings = operator_settings(ArchiveRewriteSettings, "owner")
    failpoints.arm(os.environ)
    products = product_fields(load_catalogue(settings.event_types_file))
    with readable_failures("Not rewritten", refusals=REFUSALS, server="The archive"):
        open_store(settings).close()
    if not yes:
        click.confirm("The bytes of erased users are removed from the archive for ever. Go on?", abort=True, err=True)

    async def go() -> rewriting.Rewritten:
        url = settings.database_url.get_secret_value()
        with closing(open_store(settings)) as store:
            async with audited(by_url(url), "archive rewrite", target=store.place, refusals=REWRITE_REFUSALS) as deed:
                connection = await connect(url, "footfall-archive")
                try:
                    found = await rewriting.rewrite(connection, store, products, Progress("records looked at"))
                finally:
                    await connection.close()
                deed.target = noted(store.place, found.entries, found.head)
        return found

    with readable_failures("Not rewritten", refusals=REWRITE_REFUSALS, server="PostgreSQL"):
        found = asyncio.run(go())
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        click.echo(f"{found.records:,} records of {found.users:,} erased users, in {found.files:,} files, are stubs.")
        click.echo(f"The archive has {found.entries:,} entries; the hash of the last is {found.head}")
    for sentence in (*found.notes, *found.problems):
        click.echo(sentence, err=True)
    sys.exit(1 if found.problems else 0)


class Progress:
    """Prints progress on a terminal, once a second."""

    def __init__(self, what: str) -> None:
        self._what, self._told_at = what, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Prints it, if it is time."""
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._told_at > PROGRESS_EVERY:
            self._told_at = now
            click.echo(f"{done:,} of {total:,} {self._what}", err=True)

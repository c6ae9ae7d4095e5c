"""The `footfall` command. Each subcommand imports what it needs in its function, so that `--help` is quick."""

import rich_click as click

from footfall.cli.archive.commands import archive
from footfall.cli.dlq import dlq
from footfall.cli.doctor import doctor
from footfall.cli.gaps import gaps
from footfall.cli.privacy import privacy
from footfall.cli.rebuild import rebuild
from footfall.cli.rights.audit import audit
from footfall.cli.rights.keys import keys
from footfall.cli.rights.reporting import grant_reporter, sql
from footfall.cli.running.demo import demo
from footfall.cli.running.migrate import migrate
from footfall.cli.running.processes import PROCESSES
from footfall.cli.running.up import up
from footfall.cli.scaling.plan import plan
from footfall.cli.sealed.commands import SEALED_COMMANDS
from footfall.cli.sinks.command import sink
from footfall.cli.status import replay, status
from footfall.cli.topics import topics


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="footfall")
@click.rich_config(help_config={"text_paragraph_linebreaks": "\n\n"})
def cli() -> None:
    """Footfall records what users do and answers questions about it.

    `footfall up` runs everything on this machine. Every other command runs one process or one task, and reads its
    settings from the environment; `.env.example` explains each variable. If the environment names no server, the
    operators' commands (status, doctor, replay, dlq, gaps, privacy, rebuild, archive, audit, migrate, topics,
    grant-reporter, sql) use the `footfall up` that runs here.

    \b
    Examples:
      footfall up                        everything, on port 3000, until Ctrl-C
      footfall status --watch            where each partition stands
      footfall doctor                    what is wrong, and what to do
      footfall rebuild --help            how to rebuild the read model
    """


cli.add_command(up)
cli.add_command(demo)
for process in PROCESSES:
    cli.add_command(process)
cli.add_command(migrate)
cli.add_command(archive)
cli.add_command(audit)
cli.add_command(dlq)
cli.add_command(gaps)
cli.add_command(keys)
for sealed_command in SEALED_COMMANDS:
    privacy.add_command(sealed_command)
cli.add_command(privacy)
cli.add_command(plan)
cli.add_command(status)
cli.add_command(doctor)
cli.add_command(replay)
cli.add_command(rebuild)
cli.add_command(sink)
cli.add_command(grant_reporter)
cli.add_command(sql)
cli.add_command(topics)


def main() -> None:
    """Runs the command line: entry point of the console script."""
    cli()

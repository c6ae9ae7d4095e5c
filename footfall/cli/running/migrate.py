"""`footfall migrate`: the schema of the database."""

import rich_click as click

from footfall.cli.failures import readable_failures
from footfall.cli.options import state_dir_option


@click.command()
@state_dir_option
@click.option("--revision", default="head", show_default=True, help="Alembic revision to upgrade the schema to.")
def migrate(revision: str) -> None:
    """Bring the database schema up to date.

    DATABASE_URL must name the database's owner, who needs CREATEROLE. It waits up to 60 seconds for another
    migration, and 8 seconds for sessions that use the tables; then it names them. Running it again changes nothing.
    """
    from footfall.cli.settings import operator_settings
    from footfall.processes.own_sessions import require_own_sessions
    from operations.settings import MigrateSettings
    from operations.setup import migrate as run

    settings = operator_settings(MigrateSettings, "owner")
    require_own_sessions(settings.database_url.get_secret_value())
    with readable_failures("The migration failed"):
        run(settings, revision)
    click.echo(f"The schema is at {revision}.")

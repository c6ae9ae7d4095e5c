"""`footfall privacy`: its commands for the keys of the sealed log (docs/sealed-log.md)."""

import re
from uuid import UUID

import rich_click as click

from footfall.cli.options import state_dir_option
from footfall.cli.privacy import actor_option, tenant_option

MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


@click.command("prepare")
def privacy_prepare() -> None:
    """Make the key store's tables, and the group footfall_keys, in the database of KEY_STORE_URL.

    KEY_STORE_URL must name the owner of that database, with CREATEROLE. Running it again changes nothing.

    \b
    Example:
      KEY_STORE_URL=postgresql://owner@keys/footfall_keys footfall privacy prepare
    """
    from footfall.cli.output.sealed_keys import prepare

    prepare()


@click.command("forget-months")
@state_dir_option
@tenant_option
@click.option("--before", required=True, metavar="MONTH", help="The first month to keep, such as 2026-01 (UTC).")
@actor_option
@yes_option
def privacy_forget_months(tenant: str, before: str, actor: str | None, yes: bool) -> None:
    """Destroy the keys of old months: nobody can read what the sealed log has of them.

    Rows stay until retention deletes them. A rebuild afterwards meets stubs instead of those events, so users' own
    counts begin anew in it.

    \b
    Example:
      footfall privacy forget-months --tenant acme --before 2026-01
    """
    from footfall.cli.output.sealed_keys import forget_months

    if MONTH.fullmatch(before) is None:
        raise click.UsageError("A month is written 2026-01.")
    forget_months(tenant, before, actor, ask=not yes)


@click.command("give-up")
@state_dir_option
@click.argument("subjects", metavar="[SUBJECT]..", nargs=-1, type=click.UUID)
@click.option("--month", "months", multiple=True, metavar="MONTH", help="A month whose key is lost, such as 2026-01.")
@tenant_option
@actor_option
@yes_option
def privacy_give_up(
    subjects: tuple[UUID, ...], months: tuple[str, ...], tenant: str, actor: str | None, yes: bool
) -> None:
    """Give up subjects, or months of a tenant, whose keys are lost, so that a partition that stopped for them goes on.

    Their events become those of nobody, for ever, also if a backup with the keys is found.

    \b
    Example:
      footfall privacy give-up 5f0c3a51-29f1-4b7e-9d56-0f4f6a3d2c11
      footfall privacy give-up --tenant acme --month 2026-01
    """
    from footfall.cli.output.sealed_keys import give_up

    if not subjects and not months:
        raise click.UsageError("Name subjects, or a --month.")
    if not all(map(MONTH.fullmatch, months)):
        raise click.UsageError("A month is written 2026-01.")
    give_up(subjects, tenant, months, actor, ask=not yes)


@click.command("rewrap")
@state_dir_option
@actor_option
def privacy_rewrap(actor: str | None) -> None:
    """Wrap every key of the key store by the newest tenant key, so that older lines can go.

    KEY_STORE_URL must name the owner of that database. Give every process the new line, as its last, before: what they
    wrap meanwhile is wrapped by it. Nothing that was sealed changes.

    \b
    Example:
      KEY_STORE_URL=postgresql://owner@keys/footfall_keys footfall privacy rewrap
    """
    from footfall.cli.output.sealed_keys import rewrap

    rewrap(actor)


SEALED_COMMANDS = (privacy_prepare, privacy_forget_months, privacy_give_up, privacy_rewrap)

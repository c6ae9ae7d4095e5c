"""Runs and prints what `footfall privacy` does with the keys of the sealed log."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar
from uuid import UUID

import rich_click as click

from footfall.cli.failures import fail, readable_failures
from footfall.cli.sealed.key_store import operator_keys
from footfall.cli.settings import operator_settings
from footfall.processes.environment import load_settings
from operations.audit.deed import actor_name
from operations.privacy import rewrapping, sealed_keys
from operations.settings import PrivacySettings
from projector.sealed.keys import Keys
from read_model.audit import AuditUnavailableError
from sealing.errors import KeysError
from sealing.schema import prepare as prepare_schema
from sealing.settings import SealingSettings

Found = TypeVar("Found")


def prepare() -> None:
    """Makes the key store's tables."""
    settings = load_settings(SealingSettings)
    if not settings.has_store():
        fail("KEY_STORE_URL is not set: give the URL of the owner of the key store's database")
    with readable_failures("The key store was not prepared"):
        asyncio.run(prepare_schema(settings.key_store_url.get_secret_value()))
    click.echo("The key store is ready. Its users need: GRANT footfall_keys TO ..")


def forget_months(tenant: str, before: str, actor: str | None, *, ask: bool) -> None:
    """Destroys keys of months and prints which."""
    if ask:
        click.confirm(f"Make all events of tenant {tenant} before {before} unreadable for ever?", abort=True, err=True)
    found = _answer(
        lambda settings, keys: sealed_keys.forget_months(settings, keys, tenant, before, actor or actor_name())
    )
    click.echo(f"Keys destroyed: {', '.join(found) or 'none'}.")


def give_up(subjects: Sequence[UUID], tenant: str, months: Sequence[str], actor: str | None, *, ask: bool) -> None:
    """Declares subjects, or months of a tenant, destroyed."""
    of_tenant = f"{', '.join(months)} of tenant {tenant}" if months else ""
    what = " and ".join(filter(None, [f"{len(subjects)} subjects" if subjects else "", of_tenant]))
    if ask:
        click.confirm(f"Give up {what} for ever?", abort=True, err=True)
    _answer(lambda settings, keys: sealed_keys.give_up(settings, keys, subjects, tenant, months, actor or actor_name()))
    click.echo(f"Given up: {what}. Their events are stubs from now on.")


def rewrap(actor: str | None) -> None:
    """Wraps every key by the newest tenant key, and prints which older ones have wrapped how many."""
    settings, store = operator_settings(PrivacySettings, "projector"), operator_keys()
    if store is None:
        fail(sealed_keys.NO_STORE)
    sealing = load_settings(SealingSettings)
    url, keys = sealing.key_store_url.get_secret_value(), sealing.keys()
    with readable_failures("Not every key was wrapped anew; run it again", refusals=(AuditUnavailableError, KeysError)):
        found = asyncio.run(rewrapping.rewrap(settings, url, keys, actor or actor_name()))
    for name, number in sorted(found.items()):
        click.echo(f"{name}: {number:,} keys are wrapped by the newest line now.")
    click.echo("Nothing is wrapped by an older line any more. Take it out of TENANT_KEYS, and restart each process.")


def _answer(do: Callable[[PrivacySettings, Keys | None], Coroutine[Any, Any, Found]]) -> Found:
    settings, keys = operator_settings(PrivacySettings, "projector"), operator_keys()
    with readable_failures("Nothing was changed", refusals=(AuditUnavailableError, KeysError)):
        return asyncio.run(do(settings, keys))

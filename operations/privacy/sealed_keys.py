"""Destroys keys of the sealed log on purpose: those of old months, and those that are lost anyway."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from operations.audit.deed import audited, by_url
from operations.settings import PrivacySettings
from projector.sealed.keys import Keys, connected_store
from sealing.errors import KeysError
from sealing.store import month_of

NO_STORE = "There is no key store here: KEY_STORE_URL is not set."
STILL_SEALING = "Events are sealed by the key of this month, so it has to be kept: {} is too late a month to name."

NOT_LOST = "The key store has these months, or they are given up already: {}."


async def forget_months(
    settings: PrivacySettings, keys: Keys | None, tenant_id: str, before: str, actor: str
) -> list[str]:
    """Destroys the tenant's keys of all months before one, so that nobody can read what the log has of them.

    Args:
        settings: Name the database, for the audit log.
        keys: Of the sealed log.
        tenant_id: Whose.
        before: The first month to keep, such as 2026-01 (UTC).
        actor: The operator.

    Returns:
        The months.

    Raises:
        KeysError: There is no key store, or it cannot be used.
        AuditUnavailableError: The audit log cannot be written, so nothing was done.
    """
    write = by_url(settings.database_url.get_secret_value())
    async with audited(
        write, "privacy forget-months", actor=actor, target=before, tenant_id=tenant_id, refusals=(KeysError,)
    ) as deed:
        async with connected_store(keys) as store:
            if store is None:
                raise KeysError(NO_STORE)
            if before > month_of(datetime.now(UTC)):  # new events are sealed by it, and would be lost at once
                raise KeysError(STILL_SEALING.format(before))
            found = await store.destroy_months(tenant_id, before)
        deed.target = f"{len(found)} months before {before}"
    return found


async def give_up(
    settings: PrivacySettings,
    keys: Keys | None,
    subject_ids: Sequence[UUID],
    tenant_id: str,
    months: Sequence[str],
    actor: str,
) -> None:
    """Declares subjects, or months of a tenant, destroyed whose keys are lost: partitions go on, with stubs.

    Other arguments and errors are those of `forget_months`. A month that has a key is refused.
    """
    write = by_url(settings.database_url.get_secret_value())
    target = ", ".join(filter(None, [f"{len(subject_ids)} subjects" if subject_ids else "", *months]))
    async with (
        audited(write, "privacy give-up", actor=actor, target=target, tenant_id=tenant_id, refusals=(KeysError,)),
        connected_store(keys) as store,
    ):
        if store is None:
            raise KeysError(NO_STORE)
        if any(month >= month_of(datetime.now(UTC)) for month in months):
            raise KeysError(STILL_SEALING.format(max(months)))
        if subject_ids:
            await store.destroy(subject_ids)
        there = set(months) - set(await store.give_up_months(tenant_id, months))
        if there:
            raise KeysError(NOT_LOST.format(", ".join(sorted(there))))
